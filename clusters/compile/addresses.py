"""Addresses that stand in for those of nodes that Kubernetes chooses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from clusters.model import Cluster, Node

# Benchmarking addresses (RFC 2544): no node has one.
STAND_IN = IPv4Address("198.18.0.0")
_STAND_IN = re.compile(r"\b198\.1[89](?:\.\d{1,3}){2}\b")


def addressed(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes, each that Kubernetes places with a stand-in address to plan with."""
    result = dict(nodes)
    for offset, node in enumerate((one for one in nodes.values() if one.placed), 1):
        result[node.name] = replace(node, address=str(STAND_IN + offset))
    return result


class PlacedNames:
    """Writes `@` and a node's name in place of its stand-in address."""

    def __init__(self, cluster: Cluster) -> None:
        self._names = {
            node.address: f"@{node.name}"
            for node in cluster.nodes.values()
            if node.placed and node.address
        }

    def text(self, value: str) -> str:
        if not self._names:
            return value
        return _STAND_IN.sub(lambda found: self._names.get(found[0], found[0]), value)

    def data(self, value: Any) -> Any:
        """Apply `text` to every string in data."""
        if not self._names:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.data(item) for key, item in value.items()}
        return [self.data(item) for item in value] if isinstance(value, list) else value
