"""The command that imports existing launch scripts."""

from __future__ import annotations

from invoke import Exit

from commands.command import argument, command, option, output
from commands.options import FORMAT, PLATFORM, RELEASE


@command(
    name="import",
    help={
        "release": "a release of the matrix (default: what the scripts say, else v0.13.0rc1)",
        "platform": "a2 or a3 (default: what the scripts say, else a3)",
    },
)
def import_(
    scripts: list[str] = argument(
        "scripts, directories, documents (.md), YAML of nightly tests", required=False
    ),
    out: str = option("directory for recipe.yaml and cluster.yaml (default: this one)"),
    release: str = RELEASE,
    platform: str = PLATFORM,
    name: str = option("name of the cluster (default: that of the script or its directory)"),
    set: list[str] = option(
        "NAME=VALUE or SCRIPT:NAME=VALUE for a value that a script leaves open"
    ),
    force: bool = option("replace existing files"),
    format: str = FORMAT,
) -> None:
    """Make a recipe and a cluster file from launch scripts

    Compares the plan with the scripts; exits with 65 when something in them is lost.

        invoke import SCRIPT...
    """
    from clusters.importing import run, summary
    from common.errors import EX_DATAERR, user_error

    given = dict(one.partition("=")[::2] for one in set)
    if wrong := [one for one in set if "=" not in one]:
        raise user_error("--set", f"{wrong[0]!r} has no value", "write --set NAME=VALUE")
    made = run.run(scripts, run.Options(out, release, platform, name, given, force))
    output(format, summary.data(made), lambda: summary.lines(made))
    if any(one.lost for one in made):
        raise Exit(code=EX_DATAERR)
