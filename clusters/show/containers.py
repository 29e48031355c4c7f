"""The parts of a container that may be shown: without secrets and stand-in addresses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clusters.deployment import Container
from clusters.model import Node
from clusters.ranges import compact
from entrypoints import printing
from entrypoints.launch.topology import EXTERNAL, NODES, RAY, Place


def environment(container: Container) -> Mapping[str, str]:
    """The variables that its entrypoint sets."""
    return container.launch.env if container.launch else {}


def commands(container: Container) -> list[Sequence[str]]:
    """The commands that it runs in order; none when its entrypoint refuses."""
    if container.command:
        return [container.command]
    return [*container.launch.before, container.launch.argv] if container.launch else []


def variables(container: Container) -> dict[str, str]:
    """Its variables, with secrets masked: also those given by reference, and those in a recipe."""
    given = {name: _recipe(value) for name, value in printing.masked_env(container.env).items()}
    return {**given, **dict.fromkeys(container.secrets, printing.MASK)}


def _recipe(value: str) -> str:
    """A recipe's text with secrets masked."""
    if not value.startswith("{"):
        return value
    try:
        document = json.loads(value)
    except ValueError:
        return value
    masked = mask_document(document)
    return value if masked == document else json.dumps(masked, ensure_ascii=False)


def mask_document(value: Any) -> Any:
    """Mask the texts of keys that name a secret."""
    if isinstance(value, dict):
        return {
            key: printing.MASK
            if isinstance(item, str) and printing.is_secret_key(key)
            else mask_document(item)
            for key, item in value.items()
        }
    return [mask_document(item) for item in value] if isinstance(value, list) else value


def command_rows(argv: Iterable[str]) -> list[str]:
    """A command, each flag in its own row, with secrets masked."""
    return printing.command_lines(printing.masked(argv))


def identity(container: Container) -> dict[str, Any]:
    """The name and the place of a container as data."""
    return {
        "name": container.name,
        "node": container.node.name,
        "instance": container.instance,
        "replica": container.replica,
        "rank": container.rank,
    }


def address(node: Node) -> str:
    """The address of a node; empty when Kubernetes places it."""
    return "" if node.placed else node.address or ""


def sizes(place: Place | None) -> str:
    """`tp 4 · pp 2`: tp, and the other parallel sizes above 1."""
    if place is None:
        return ""
    rows = (("tp", place.tp, True), ("pp", place.pp, False), ("pcp", place.pcp, False))
    return " · ".join(f"{name} {size}" for name, size, always in rows if always or size > 1)


def ranks(place: Place | None) -> str:
    """The container's share of its group: `dp 4-7 of 8 · tp 4`."""
    if place is None:
        return ""
    here = ""
    if place.layout == RAY:
        here = f"dp {place.dp}" if place.dp > 1 else ""
    elif place.layout == NODES:
        here = f"node {place.rank} of {place.nodes}"
    elif place.layout == EXTERNAL or place.dp > 1:
        first = place.start_rank
        here = f"dp {compact(range(first, first + place.ranks_here))} of {place.dp}"
    return " · ".join(filter(None, (here, sizes(place))))
