"""Stops and removes containers: the proxy first, so that servers get no more requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from clusters.live.engine import (
    Connect,
    ContainerInfo,
    Engine,
    EngineError,
    connect,
    connect_all,
    named_nodes,
)
from clusters.live.parallel import each
from clusters.model import Cluster
from clusters.runtime.spec import CLUSTER, NODE, ROLE
from common.errors import Finding


@dataclass(frozen=True)
class Target:
    """A container on a node, running or not."""

    node: str
    engine: Engine
    info: ContainerInfo


Report = Callable[[Target, str], None]


def stop_all(targets: Sequence[Target], report: Report) -> list[Finding]:
    """Stop each container with its own drain and remove it; `report` gets what was done.

    Returns findings about containers that could not be removed. On an interrupt, kill and remove
    the remaining containers, then raise it again.
    """
    findings: list[Finding] = []
    left = {one.info.id for one in targets}

    def stop(one: Target, kill: bool = False) -> None:
        try:
            running = one.info.state in ("running", "restarting", "paused")
            if running and not kill:
                one.engine.stop(one.info.id, one.info.stop_timeout)
            one.engine.remove(one.info.id, force=True)
            did = "killed and removed" if kill else "stopped and removed"
            if one.info.id in left:
                left.discard(one.info.id)
                report(one, did if running else "removed")
        except EngineError as error:
            fix = "remove it there: docker rm -f"
            findings.append(Finding(f"{one.node}: {one.info.name}", f"not removed: {error}", fix))

    ordered = sorted(targets, key=_is_server)
    try:
        for _, phase in groupby(ordered, _is_server):
            each(stop, list(phase))
    except KeyboardInterrupt:
        each(partial(stop, kill=True), [one for one in ordered if one.info.id in left])
        raise
    return findings


def _is_server(one: Target) -> bool:
    return one.info.labels.get(ROLE) != "proxy"


def down(
    cluster: Cluster, say: Callable[[str], None], connect: Connect = connect
) -> tuple[list[dict[str, str]], list[Finding]]:
    """Stop and remove every container with the cluster's label on the nodes of its file.

    Returns what was done, and findings about the rest.
    """
    engines, findings = connect_all(named_nodes(cluster), connect)
    found: dict[str, Target] = {}
    for node, engine in engines.items():
        try:
            for info in engine.containers(f"{CLUSTER}={cluster.name}"):
                found.setdefault(info.id, Target(info.labels.get(NODE, node), engine, info))
        except EngineError as error:
            findings.append(Finding(node, f"the Docker engine does not answer: {error}"))
    done: list[dict[str, str]] = []

    def report(one: Target, did: str) -> None:
        say(f"{one.node}: {one.info.name}: {did}")
        done.append({"node": one.node, "container": one.info.name, "did": did})

    findings += stop_all(list(found.values()), report)
    return sorted(done, key=lambda one: one["container"]), findings
