"""Commands about a cluster file: one file for all nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context, Exit, task

from commands.common import FORMAT, data, environ, known_format, problems_in_plain_words, say

if TYPE_CHECKING:
    from clusters.deployment import Deployment

FILE = "a cluster file: docs/clusters.md"


@task(auto_shortflags=False, help={"file": FILE, "format": FORMAT})
def check(c: Context, file: str, format: str = "text") -> None:
    """Name everything that is wrong or risky in a cluster file: invoke cluster.check FILE

    Exits with 65 when anything is wrong.
    """
    with problems_in_plain_words():
        from clusters.show import check, output
        from common.errors import EX_DATAERR

        found = check.check(file)
        if format == "text":
            output.print_lines(found.lines())
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
        from clusters.checks.load import load_deployment
        from clusters.show import plan as plans
        from common.errors import ERROR, EX_DATAERR

        deployment = load_deployment(file)
        plans.write(deployment, node, format, out)
        for finding in deployment.findings:
            say(str(finding))
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
        from clusters.checks.load import load_deployment
        from clusters.show import diff as diffs
        from clusters.show import output
        from common.errors import ERROR

        after = load_deployment(new)
        found = diffs.compare(load_deployment(old), after)
        for finding in after.findings:
            if finding.severity == ERROR:
                say(str(finding))
        if format == "text":
            output.print_lines(diffs.text(found))
        else:
            data(format, diffs.data(found), str)
        if exit_code and not found.same:
            raise Exit(code=1)


@task(
    auto_shortflags=False,
    help={
        "file": FILE,
        "to": "docker (a script a node), compose, lws or ray (Kubernetes)",
        "node": "only what is on this node",
        "out": "write the files into this directory instead of printing them",
    },
)
def render(c: Context, file: str, to: str, node: str = "", out: str = "") -> None:
    """Write what starts a cluster: invoke cluster.render FILE --to docker

    The same bytes for the same file.
    """
    with problems_in_plain_words():
        from clusters.render import formats
        from clusters.runtime.spec import on_node

        renderer = formats.renderer(to)
        deployment = _sound(file)
        files = renderer(on_node(deployment, node) if node else deployment)
        if out:
            print("\n".join(map(str, formats.write(files, Path(out)))))
        else:
            print(formats.text(files), end="")


@task(
    auto_shortflags=False,
    help={
        "file": FILE,
        "timeout": "seconds until all have to be healthy (default: 1800)",
        "detach": "do not wait for that, and leave what runs when interrupted",
        "devices": "--no-devices leaves NPUs and driver out: to rehearse a start without them",
    },
)
def up(
    c: Context, file: str, timeout: int = 1800, detach: bool = False, devices: bool = True
) -> None:
    """Start a cluster on its nodes' Docker engines: invoke cluster.up FILE

    What runs as the file has it is left alone, what has changed is replaced. With the first
    container that fails, or when interrupted, what this call has started is removed again.
    """
    with problems_in_plain_words():
        from clusters.live.table import Progress, summary
        from clusters.live.up import Options
        from clusters.live.up import up as start

        deployment = _sound(file)
        with Progress(sys.stderr) as view:
            rows = start(deployment, environ(), view, Options(devices, detach, timeout))
        print(summary(deployment, rows))


@task(auto_shortflags=False, help={"file": FILE, "format": FORMAT})
def status(c: Context, file: str, format: str = "text") -> None:
    """Show where every container of a cluster is: invoke cluster.status FILE

    Exits with 0 only when all are healthy, with 69 when an engine cannot be reached.
    """
    with problems_in_plain_words():
        from clusters.checks.load import load_deployment
        from clusters.live import table
        from clusters.live.status import status as look
        from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, UserError

        known_format(format)
        rows, problems = look(load_deployment(file))
        data(format, table.as_data(rows), lambda: table.text(rows))
        if problems:
            raise UserError(problems, EX_UNAVAILABLE)
        if not all(row.ready for row in rows):
            raise Exit(code=EX_SOFTWARE)


@task(auto_shortflags=False, help={"file": FILE, "format": FORMAT})
def down(c: Context, file: str, format: str = "text") -> None:
    """Stop a cluster and remove its containers: invoke cluster.down FILE

    Every container with the label of this cluster on the nodes of the file, and no other. Each has
    the time of its drain.
    """
    with problems_in_plain_words():
        from clusters.file.read import load
        from clusters.live.down import down as stop
        from common.errors import EX_UNAVAILABLE, UserError

        known_format(format)
        cluster = load(file)
        done, problems = stop(cluster, say)
        data(format, done, lambda: f"{cluster.name}: {len(done)} removed")
        if problems:
            raise UserError(problems, EX_UNAVAILABLE)


def _sound(file: str) -> Deployment:
    """The compiled cluster of a file without errors; warnings are told."""
    from clusters.checks.load import load_deployment
    from common.errors import EX_DATAERR, WARNING, UserError

    deployment = load_deployment(file)
    for finding in deployment.findings:
        if finding.severity == WARNING:
            say(str(finding))
    if any(finding.severity != WARNING for finding in deployment.findings):
        raise UserError(deployment.findings, EX_DATAERR)
    return deployment


@task(auto_shortflags=False)
def schema(c: Context) -> None:
    """Print the JSON Schema of cluster files, for editors."""
    from clusters.file.schema import schema as loaded

    print(json.dumps(loaded(), indent=1))
