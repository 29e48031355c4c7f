"""Stopping a cluster: every container with its label, on the nodes of its file."""

from __future__ import annotations

from collections.abc import Callable

from clusters.live.ending import Found, end
from clusters.live.engine import Connect, Rejected, Unreachable, connect, hosts, reach
from clusters.model import Cluster
from clusters.runtime.spec import CLUSTER, NODE
from common.errors import Finding

Done = dict[str, str]


def down(
    cluster: Cluster, say: Callable[[str], None], connect: Connect = connect
) -> tuple[list[Done], list[Finding]]:
    """What was done with which container, and what could not be: the other nodes go on."""
    engines, problems = reach(hosts(cluster), connect)
    found: dict[str, Found] = {}
    for node, engine in engines.items():
        try:
            for seen in engine.containers(f"{CLUSTER}={cluster.name}"):
                found.setdefault(seen.id, Found(seen.labels.get(NODE, node), engine, seen))
        except (Unreachable, Rejected) as error:
            problems.append(Finding(node, f"the Docker engine does not answer: {error}"))
    done: list[Done] = []

    def told(one: Found, did: str) -> None:
        say(f"{one.node}: {one.seen.name}: {did}")
        done.append({"node": one.node, "container": one.seen.name, "did": did})

    problems += end(list(found.values()), told)
    return sorted(done, key=lambda one: one["container"]), problems
