"""Stopping a cluster: every container with its label, on the nodes of its file."""

from __future__ import annotations

from collections.abc import Callable

from clusters.live.engine import Connect, Rejected, Unreachable, connect, connect_all, named_nodes
from clusters.live.stop import Target, stop_all
from clusters.model import Cluster
from clusters.runtime.spec import CLUSTER, NODE
from common.errors import Finding

Done = dict[str, str]


def down(
    cluster: Cluster, say: Callable[[str], None], connect: Connect = connect
) -> tuple[list[Done], list[Finding]]:
    """What was done with which container, and what could not be: the other nodes go on."""
    engines, problems = connect_all(named_nodes(cluster), connect)
    found: dict[str, Target] = {}
    for node, engine in engines.items():
        try:
            for seen in engine.containers(f"{CLUSTER}={cluster.name}"):
                found.setdefault(seen.id, Target(seen.labels.get(NODE, node), engine, seen))
        except (Unreachable, Rejected) as error:
            problems.append(Finding(node, f"the Docker engine does not answer: {error}"))
    done: list[Done] = []

    def told(one: Target, did: str) -> None:
        say(f"{one.node}: {one.seen.name}: {did}")
        done.append({"node": one.node, "container": one.seen.name, "did": did})

    problems += stop_all(list(found.values()), told)
    return sorted(done, key=lambda one: one["container"]), problems
