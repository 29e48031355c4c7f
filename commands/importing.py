"""The command that reads the scripts people have."""

from __future__ import annotations

from invoke import Context, Exit, task

from commands.common import FORMAT, RELEASE, data, known_format, problems_in_plain_words
from commands.parsing import SeveralTask


@task(
    klass=SeveralTask,
    name="import",
    auto_shortflags=False,
    positional=["scripts"],
    iterable=["set"],
    help={
        "scripts": "shell scripts, directories of them, documents (.md), YAML of nightly tests",
        "out": "directory for recipe.yaml and cluster.yaml (default: this one)",
        "release": RELEASE.replace("the reference", "what the scripts say, else"),
        "platform": "a2 or a3 (default: what the scripts say, else a3)",
        "name": "name of the cluster (default: that of the script or its directory)",
        "set": "what a script leaves open, NAME=VALUE or SCRIPT:NAME=VALUE; repeatable",
        "force": "replace files that are there",
        "format": FORMAT,
    },
)
def import_(
    c: Context,
    scripts: list[str],
    out: str = "",
    release: str = "",
    platform: str = "",
    name: str = "",
    set: list[str] | None = None,
    force: bool = False,
    format: str = "text",
) -> None:
    """Make a recipe and a cluster file of launch scripts: invoke import SCRIPT…

    What they plan is compared with the scripts; exits with 65 when something of those is lost.
    """
    with problems_in_plain_words():
        from clusters.importing import run, summary
        from clusters.show import output
        from common.errors import EX_DATAERR, user_error

        known_format(format)
        given = dict(one.partition("=")[::2] for one in set or [])
        if wrong := [one for one in set or [] if "=" not in one]:
            raise user_error("--set", f"{wrong[0]!r} has no value", "write --set NAME=VALUE")
        made = run.run(scripts, run.Options(out, release, platform, name, given, force))
        if format == "text":
            output.print_lines(summary.lines(made))
        else:
            data(format, summary.data(made), str)
        if any(one.lost for one in made):
            raise Exit(code=EX_DATAERR)
