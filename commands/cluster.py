"""Commands about a cluster file: one file for all nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Exit

from commands.command import argument, command, option, output, say
from commands.options import CLUSTER_FILE, FORMAT, environ, releases

if TYPE_CHECKING:
    from clusters.deployment import Deployment


@command
def check(file: str = CLUSTER_FILE, format: str = FORMAT) -> None:
    """Find everything wrong or risky in a cluster file

    Exits with 65 when anything is wrong.

        invoke cluster.check FILE
    """
    from clusters.show import check
    from common.errors import EX_DATAERR

    found = check.check(file)
    output(format, found.data(), found.lines)
    if found.failed:
        raise Exit(code=EX_DATAERR)


@command
def plan(
    file: str = CLUSTER_FILE,
    node: str = option("one node (default: all)"),
    format: str = option(
        "text, json, diff (between nodes of an instance), svg (a picture)",
        ("text", "json", "diff", "svg"),
        default="text",
    ),
    out: str = option("write to this file instead of printing; replaces what is there"),
) -> None:
    """Show what every node gets and runs; start nothing

    Exits with 65 when anything is wrong, and shows the plan as far as there is one.

        invoke cluster.plan FILE
    """
    from clusters.checks import load_deployment
    from clusters.show import plan as plans
    from common.errors import ERROR, EX_DATAERR

    deployment = load_deployment(file)
    plans.write(deployment, node, format, out)
    for finding in deployment.findings:
        say(str(finding))
    if any(finding.severity == ERROR for finding in deployment.findings):
        raise Exit(code=EX_DATAERR)


@command
def upgrade(
    file: str = CLUSTER_FILE,
    to: str = argument("the release to upgrade to", releases),
    out: str = option("write to this file, which may be FILE; a recipe file goes beside it"),
    accept: list[str] = option("NAME of what may be left out; repeatable; or all"),
    format: str = FORMAT,
) -> None:
    """Rewrite a cluster file and its recipe for another release

    Lists every change with its reason and source: what moved or is gone, changed defaults, known
    issues, the driver. Exits with 65 when something has no replacement, unless it is accepted, or
    when the result has errors. Keeps comments. Without --out, prints the result.

        invoke cluster.upgrade FILE --to v0.23.0.post1 --out FILE
    """
    from clusters.show import upgraded
    from clusters.upgrade import upgrade as upgrades
    from common.files import write_output

    made = upgrades.upgrade(file, to, out or file, accept)
    for path, text in made.files.items() if out else ():
        write_output(Path(path), text)
    if format == "json":
        output(format, upgraded.data(made), str)
        return
    for line in upgraded.lines(made):
        (print if out else say)(line)
    if not out:
        print("\n".join(made.files.values()), end="")


@command
def dryrun(
    file: str = CLUSTER_FILE,
    image: str = option("ask this image (default: the file's)"),
    model: bool = option("build the model of each distinct rank, too", default=True),
    hbm: float = option("GiB of a device's memory (default: the platform's)", default=0.0),
    allowance: float = option(
        "GiB for activations, graphs and HCCL (default: estimated)", default=0.0
    ),
    format: str = FORMAT,
) -> None:
    """Ask the image's own vLLM and vllm-ascend whether each node would start, without an NPU

    Runs the images of the file here, without network. Exits with 65 when upstream refuses a node.

        invoke cluster.dryrun FILE
    """
    from clusters import dryrun as dry
    from common.errors import EX_DATAERR
    from entrypoints.dryrun import report

    options = [] if model else ["--no-model"]
    options += [f"--hbm={hbm:g}"] if hbm else []
    options += [f"--allowance={allowance:g}"] if allowance else []
    found = dry.run(_sound(file), image, options)
    output(format, found, lambda: report.text(found))
    if any(one["refused"] for one in found):
        raise Exit(code=EX_DATAERR)


@command
def diff(
    old: str = CLUSTER_FILE,
    new: str = argument("the file that replaces it"),
    format: str = FORMAT,
    exit_code: bool = option("exit with 1 when something differs"),
) -> None:
    """Show what changes on which node, and what it restarts

    invoke cluster.diff OLD NEW
    """
    from clusters.checks import load_deployment
    from clusters.show import diff as diffs
    from common.errors import ERROR

    after = load_deployment(new)
    found = diffs.compare(load_deployment(old), after)
    for finding in after.findings:
        if finding.severity == ERROR:
            say(str(finding))
    output(format, diffs.data(found), lambda: diffs.text(found))
    if exit_code and not found.same:
        raise Exit(code=1)


@command
def render(
    file: str = CLUSTER_FILE,
    to: str = argument(
        "docker (a script a node), compose, lws or ray (Kubernetes)",
        ("docker", "compose", "lws", "ray"),
    ),
    node: str = option("only what is on this node"),
    out: str = option("write the files into this directory instead of printing"),
) -> None:
    """Write what starts a cluster: scripts, Compose files, manifests

    The same file always gives the same bytes.

        invoke cluster.render FILE --to docker
    """
    from clusters.render import formats
    from clusters.runtime.spec import on_node
    from common.files import write_directory

    renderer = formats.renderer(to)
    deployment = _sound(file)
    files = renderer(on_node(deployment, node) if node else deployment)
    if out:
        print("\n".join(map(str, write_directory(Path(out), files))))
    else:
        print(formats.text(files), end="")


@command
def up(
    file: str = CLUSTER_FILE,
    timeout: int = option("seconds until all have to be healthy", default=1800),
    detach: bool = option("do not wait for it; leave containers running when interrupted"),
    devices: bool = option("leave NPUs and driver out, for a start without them", default=True),
) -> None:
    """Start a cluster on its nodes' Docker engines

    Leaves containers that match the file alone, and replaces those that changed. When a container
    fails, or when interrupted, removes what this call started.

        invoke cluster.up FILE
    """
    from clusters.live.table import Progress, summary
    from clusters.live.up import Options
    from clusters.live.up import up as start

    deployment = _sound(file)
    with Progress(sys.stderr) as view:
        rows = start(deployment, environ(), view, Options(devices, detach, timeout))
    print(summary(deployment, rows))


@command
def status(file: str = CLUSTER_FILE, format: str = FORMAT) -> None:
    """Show where every container of a cluster is

    Exits with 0 only when all are healthy, with 69 when an engine cannot be reached.

        invoke cluster.status FILE
    """
    from clusters.checks import load_deployment
    from clusters.live import table
    from clusters.live.status import status as look
    from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, UserError

    rows, problems = look(load_deployment(file))
    output(format, table.as_data(rows), lambda: table.text(rows))
    if problems:
        raise UserError(problems, EX_UNAVAILABLE)
    if not all(row.ready for row in rows):
        raise Exit(code=EX_SOFTWARE)


@command
def down(file: str = CLUSTER_FILE, format: str = FORMAT) -> None:
    """Stop a cluster and remove its containers

    Removes every container with this cluster's label on the nodes of the file, and no other. Each
    has time to drain.

        invoke cluster.down FILE
    """
    from clusters.file.read import load
    from clusters.live.stop import down as stop
    from common.errors import EX_UNAVAILABLE, UserError

    cluster = load(file)
    done, problems = stop(cluster, say)
    output(format, done, lambda: f"{cluster.name}: {len(done)} removed")
    if problems:
        raise UserError(problems, EX_UNAVAILABLE)


@command
def schema() -> None:
    """Print the JSON Schema of cluster files, for editors"""
    from clusters.file.schema import schema as loaded

    print(json.dumps(loaded(), indent=1))


def _sound(file: str) -> Deployment:
    """The compiled cluster of a file without errors; prints its warnings."""
    from clusters.checks import load_deployment
    from common.errors import EX_DATAERR, WARNING, UserError

    deployment = load_deployment(file)
    for finding in deployment.findings:
        if finding.severity == WARNING:
            say(str(finding))
    if any(finding.severity != WARNING for finding in deployment.findings):
        raise UserError(deployment.findings, EX_DATAERR)
    return deployment
