"""Commands that follow upstream: a new release, and whether what is stated of each is true."""

from __future__ import annotations

from invoke import Context, task

from commands.common import FORMAT, data, environ, known_format, problems_in_plain_words, say, words


@task(
    auto_shortflags=False,
    help={
        "release": "a version of vllm-ascend that the package index has: v0.23.0 or 0.23.0",
        "dry-run": "print everything, write nothing",
        "no-lock": "leave the locks out: they take minutes",
        "wheels": "where wheels lie that the index lacks: directories or pages, with commas",
        "torch-index": "PyTorch's CPU index, for a torch without CUDA (default: TORCH_CPU_INDEX)",
        "format": FORMAT,
    },
)
def bump(
    c: Context,
    release: str,
    dry_run: bool = False,
    no_lock: bool = False,
    wheels: str | None = None,
    torch_index: str | None = None,
    format: str = "text",
) -> None:
    """Take up a release of upstream from its own files: invoke bump v0.23.0

    Writes its pins, dialect, flags, variables and locks; prints what changed, where upstream
    contradicts itself, and what a person must decide. What is there already is left alone.
    """
    with problems_in_plain_words():
        from common.errors import EX_UNAVAILABLE, Problem, UserError
        from images.flags import Wheels
        from releases import bump as bumps
        from releases import index, show

        known_format(format)
        found = Wheels.of(environ(), wheels, torch_index)
        name = bumps.named(release, lambda: index.versions("vllm-ascend"))
        ours = bumps.Bump.of_project(found, tuple(words(wheels)), say)
        done = bumps.run(ours, name, not no_lock, dry_run, say)
        data(format, show.data(done), lambda: show.text(done))
        if done.failed:
            failed = [one for one in done.steps if one.outcome == "failed"]
            problems = [Problem(one.name, one.detail, one.command) for one in failed]
            raise UserError(problems, EX_UNAVAILABLE)
