"""Stops a cluster: every container with its label, on the nodes of its file."""

from __future__ import annotations

from collections.abc import Callable

from clusters.live.engine import Connect, EngineError, connect, connect_all, named_nodes
from clusters.live.stop import Target, stop_all
from clusters.model import Cluster
from clusters.runtime.spec import CLUSTER, NODE
from common.errors import Finding

Done = dict[str, str]


def down(
    cluster: Cluster, say: Callable[[str], None], connect: Connect = connect
) -> tuple[list[Done], list[Finding]]:
    """Stop and remove all containers; returns what was done, and findings about the rest."""
    engines, findings = connect_all(named_nodes(cluster), connect)
    found: dict[str, Target] = {}
    for node, engine in engines.items():
        try:
            for info in engine.containers(f"{CLUSTER}={cluster.name}"):
                found.setdefault(info.id, Target(info.labels.get(NODE, node), engine, info))
        except EngineError as error:
            findings.append(Finding(node, f"the Docker engine does not answer: {error}"))
    done: list[Done] = []

    def report(one: Target, did: str) -> None:
        say(f"{one.node}: {one.info.name}: {did}")
        done.append({"node": one.node, "container": one.info.name, "did": did})

    findings += stop_all(list(found.values()), report)
    return sorted(done, key=lambda one: one["container"]), findings
