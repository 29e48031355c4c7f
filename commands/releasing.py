"""Commands that follow upstream: a new release, and whether what is stated of each is true."""

from __future__ import annotations

from invoke import Context, task

from commands.common import FORMAT, data, environ, known_format, problems_in_plain_words, say, words


@task(
    auto_shortflags=False,
    help={
        "release": "v0.23.0 or 0.23.0; newest: of the package index, no candidate",
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
        from common.errors import EX_UNAVAILABLE, Finding, UserError
        from images.locking.index import Wheels
        from upstream import index
        from upstream.bump import bump as bumps
        from upstream.bump import show

        known_format(format)
        found = Wheels.of(environ(), wheels, torch_index)
        name = bumps.named(release, lambda: index.versions("vllm-ascend"))
        ours = bumps.Bump.of_project(found, tuple(words(wheels)), say)
        done = bumps.run(ours, name, not no_lock, dry_run, say)
        data(format, show.data(done), lambda: show.text(done))
        if done.failed:
            failed = [one for one in done.steps if one.outcome == "failed"]
            problems = [Finding(one.name, one.detail, one.command) for one in failed]
            raise UserError(problems, EX_UNAVAILABLE)


@task(
    auto_shortflags=False,
    help={
        "release": "audit what is stated of this one (default: all, and what is said of each)",
        "flags": "ask vLLM's own parser too what the flags take: a minute or so for each vLLM",
        "confirmed": "list each confirmed statement with its place, not their number alone",
        "find-links": "with --flags: a directory or page with wheels that the index lacks",
        "torch-index": "with --flags: PyTorch's CPU index (default: TORCH_CPU_INDEX)",
        "format": FORMAT,
    },
)
def audit(
    c: Context,
    release: str | None = None,
    flags: bool = False,
    confirmed: bool = False,
    find_links: str | None = None,
    torch_index: str | None = None,
    format: str = "text",
) -> None:
    """Hold what is stated of the releases against their sources: invoke audit --release v0.18.0

    Each pin, name, default, port and source is confirmed by a file and a line, contradicted, or not
    checkable. Exits with 65 when anything is contradicted, or a rule does not say its source.
    """
    with problems_in_plain_words():
        from images.locking.index import Wheels
        from upstream import audit as audits
        from upstream.audit import show

        known_format(format)
        wheels = Wheels.of(environ(), find_links, torch_index)
        ours = audits.Audit.of_project(wheels if flags else None, say)
        found = audits.run(ours, release, say)
        data(format, show.data(found), lambda: show.text(found, confirmed))
        audits.enforce(found)
