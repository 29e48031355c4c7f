"""Commands about a cluster file: one file for all nodes."""

from __future__ import annotations

import json

from invoke import Context, Exit, task

from commands.common import FORMAT, data, problems_in_plain_words, say

FILE = "a cluster file: docs/clusters.md"


@task(auto_shortflags=False, help={"file": FILE, "format": FORMAT})
def check(c: Context, file: str, format: str = "text") -> None:
    """Name everything that is wrong or risky in a cluster file: invoke cluster.check FILE

    Exits with 65 when anything is wrong.
    """
    with problems_in_plain_words():
        from clusters import report
        from clusters.show import lines
        from images.errors import EX_DATAERR

        found = report.check(file)
        if format == "text":
            lines.show(found.lines())
        else:
            data(format, found.data(), str)
        if found.failed:
            raise Exit(code=EX_DATAERR)


@task(
    auto_shortflags=False,
    help={
        "file": FILE,
        "node": "one node (default: all)",
        "format": "text (default), json, diff (between nodes of an instance), svg (a picture)",
        "out": "write it to this file, in place of one that is there, instead of printing it",
    },
)
def plan(c: Context, file: str, node: str = "", format: str = "text", out: str = "") -> None:
    """Show what every node gets and runs, starting nothing: invoke cluster.plan FILE

    Exits with 65 when anything is wrong, and shows the plan as far as there is one.
    """
    with problems_in_plain_words():
        from clusters.compiled import compiled
        from clusters.findings import ERROR
        from clusters.show import plan as plans
        from images.errors import EX_DATAERR

        deployment = compiled(file)
        plans.write(deployment, node, format, out)
        for finding in deployment.findings:
            say(finding.text())
        if any(finding.severity == ERROR for finding in deployment.findings):
            raise Exit(code=EX_DATAERR)


@task(
    auto_shortflags=False,
    help={
        "old": FILE,
        "new": "the file that comes after it",
        "format": FORMAT,
        "exit_code": "exit with 1 when something differs",
    },
)
def diff(c: Context, old: str, new: str, format: str = "text", exit_code: bool = False) -> None:
    """Say what changes on which node, and what it restarts: invoke cluster.diff OLD NEW"""
    with problems_in_plain_words():
        from clusters.compiled import compiled
        from clusters.show import diff as diffs
        from clusters.show import lines

        found = diffs.compare(compiled(old), compiled(new))
        if format == "text":
            lines.show(diffs.text(found))
        else:
            data(format, diffs.data(found), str)
        if exit_code and not found.same:
            raise Exit(code=1)


@task(auto_shortflags=False)
def schema(c: Context) -> None:
    """Print the JSON Schema of cluster files, for editors."""
    from clusters.file.schema import schema as loaded

    print(json.dumps(loaded(), indent=1))
