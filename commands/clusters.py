"""Commands about a cluster file: one file for all nodes."""

from __future__ import annotations

import json

from invoke import Context, Exit, task

from commands.common import FORMAT, data, problems_in_plain_words

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


@task(auto_shortflags=False)
def schema(c: Context) -> None:
    """Print the JSON Schema of cluster files, for editors."""
    from clusters.file.schema import schema as loaded

    print(json.dumps(loaded(), indent=1))
