"""What `invoke cluster.plan` prints: what each node of a cluster gets and runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clusters.compile.addresses import PlacedNames
from clusters.deployment import Container, Deployment
from clusters.ranges import compact, span_text
from clusters.show import output, picture
from clusters.show.containers import (
    address,
    command_rows,
    commands,
    environment,
    identity,
    ranks,
    variables,
)
from clusters.show.output import HEAD, LABEL, Line, count
from clusters.show.topology import topology
from common.errors import did_you_mean, user_error
from common.files import write_output
from entrypoints import printing

Sections = Mapping[str, Sequence[str]]  # heading -> rows
FORMATS = ("text", "json", "diff", "svg")


def select(deployment: Deployment, node: str) -> tuple[Container, ...]:
    """The containers of a node, or all of them. Raises UserError (64) for an unknown node."""
    if not node:
        return deployment.containers
    found = tuple(one for one in deployment.containers if one.node.name == node)
    known = dict.fromkeys(one.node.name for one in deployment.containers)
    if not found and node not in deployment.cluster.nodes:
        raise user_error(
            "--node", f"{node!r} is not a node of this cluster", did_you_mean(node, known)
        )
    return found


def write(deployment: Deployment, node: str, format: str, out: str) -> None:
    """Print the plan, or write it to a file. Raises UserError (64, 69)."""
    if format not in FORMATS:
        raise user_error("--format", f"'{format}' is not known", " or ".join(FORMATS))
    if node and format == "svg":
        raise user_error("--node", "the picture shows all nodes", "leave it out")
    if format == "text":
        result = list(text(deployment, node))
        if not out:
            output.print_lines(result)
            return
        whole = output.join(result)
    elif format == "diff":
        whole = "\n".join(diff(deployment, node))
    elif format == "svg":
        whole = picture.svg(topology(deployment))
    else:
        whole = json.dumps(data(deployment, node), indent=1)
    if out:
        write_output(Path(out), f"{whole}\n")
    elif whole:
        print(whole)


# ---- text ----------------------------------------------------------------------------------------


def text(deployment: Deployment, node: str = "") -> Iterator[Line]:
    """By instance: what its containers share, then what only one has."""
    containers = select(deployment, node)
    cluster = deployment.cluster
    nodes = len({one.node.name for one in containers})
    yield Line(
        f"{cluster.name}, release {cluster.release}:"
        f" {count(len(containers), 'container')} on {count(nodes, 'node')}",
        style=HEAD,
    )
    for name, several in _instances(deployment, containers).items():
        yield Line("")
        yield from _instance(name, several)
    if any(one.node.placed for one in containers):
        yield Line("")
        yield Line("@node: the address of a node that Kubernetes chooses", style=LABEL)


def _instances(
    deployment: Deployment, containers: Sequence[Container]
) -> dict[str, list[tuple[Container, Sections]]]:
    placed = PlacedNames(deployment.cluster)
    found: dict[str, list[tuple[Container, Sections]]] = {}
    for one in containers:
        name = "proxy" if one is deployment.proxy else one.instance
        found.setdefault(name, []).append((one, _sections(one, placed)))
    return found


def _instance(name: str, several: Sequence[tuple[Container, Sections]]) -> Iterator[Line]:
    sections = [own for _, own in several]
    common = {
        part: set(rows).intersection(*(one[part] for one in sections[1:]))
        for part, rows in sections[0].items()
    }
    programs = {tuple(r for r in one["command"] if not r.startswith(" ")) for one in sections}
    if len(programs) > 1:
        common["command"] = set()  # flags of different programs have nothing in common

    def lines(own: Sections, shared: bool, level: int) -> Iterator[Line]:
        parts = own.items()
        kept = {part: [r for r in rows if (r in common[part]) == shared] for part, rows in parts}
        return _lines(kept, level)

    if len(several) == 1:
        yield Line(f"{name}: {_title(several[0][0])}", style=HEAD)
    else:
        yield Line(f"{name}: {len(several)} containers, which share", style=HEAD)
    yield from lines(sections[0], True, 1)
    for container, own in several if len(several) > 1 else ():
        yield Line("")
        yield Line(_title(container), 1, HEAD)
        yield from lines(own, False, 2)


def _title(container: Container) -> str:
    node = container.node
    where = ", ".join(filter(None, (address(node), node.platform)))
    at = " ".join(filter(None, (node.name, where and f"({where})")))
    return f"{at or 'anywhere'}: {container.name}, {container.role}"


def _sections(container: Container, placed: PlacedNames) -> Sections:
    """The rows of a container by heading; its facts have an empty heading."""
    argvs = (command_rows(argv) for argv in commands(container))
    return {
        "": _facts(container),
        "variables": _assigned(placed.data(variables(container))),
        "arguments": [placed.text(row) for row in command_rows(container.arguments)],
        "environment": _assigned(placed.data(printing.masked_env(environment(container)))),
        "command": [
            placed.text(f"  {row}" if i else row) for rows in argvs for i, row in enumerate(rows)
        ],
    }


def _facts(container: Container) -> list[str]:
    listens = ", ".join(f"{name} {span_text(port)}" for name, port in container.ports.items())
    refused = "" if commands(container) else "see the findings about the cluster"
    facts = (
        ("image", container.image),
        ("ranks", ranks(container.launch.place if container.launch else None)),
        ("NPUs", compact(container.devices)),
        ("ports", listens),
        ("after", ", ".join(container.after)),
        ("refused", refused),
    )
    return [f"{name}: {value}" for name, value in facts if value]


def _assigned(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={printing.quote(value)}" for name, value in variables.items()]


def _lines(sections: Sections, level: int) -> Iterator[Line]:
    for heading, rows in sections.items():
        if heading and rows:
            yield Line(heading, level, LABEL)
        yield from (Line(row, level + bool(heading)) for row in rows)


# ---- diff ----------------------------------------------------------------------------------------


def diff(deployment: Deployment, node: str = "") -> Iterator[str]:
    """Unified diffs from the first container of an instance to each other one."""
    for several in _instances(deployment, select(deployment, node)).values():
        first, *others = (
            (list(map(str, _lines(own, 0))), f"{one.node.name}/{one.name}") for one, own in several
        )
        for other in others:
            yield from difflib.unified_diff(first[0], other[0], first[1], other[1], lineterm="")


# ---- data ----------------------------------------------------------------------------------------


def data(deployment: Deployment, node: str = "") -> dict[str, Any]:
    """The plan and the findings as data."""
    placed = PlacedNames(deployment.cluster)
    return {
        "cluster": deployment.cluster.name,
        "release": deployment.cluster.release,
        "containers": [placed.data(_container(one)) for one in select(deployment, node)],
        "findings": [asdict(one) for one in deployment.findings],
    }


def _container(container: Container) -> dict[str, Any]:
    return {
        **identity(container),
        "image": container.image,
        "devices": list(container.devices),
        "variables": variables(container),
        "arguments": list(printing.masked(container.arguments)),
        **_plan(container),
    }


def _plan(container: Container) -> dict[str, Any]:
    """The entrypoint's plan; when it refuses, its role and null."""
    if container.launch:
        return printing.plan_data(container.launch)
    argv = list(printing.masked(container.command)) if container.command else None
    env: dict[str, str] | None = {} if container.command else None
    return {"role": container.role, "env": env, "argv": argv, "ports": {}, "warnings": []}
