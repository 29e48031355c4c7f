"""Compiles a cluster file: what each container gets, and what its entrypoint plans from that.

Everything that nodes must agree on is derived here: ranks, leaders, devices, ports, the sizes of
both sides of a KV transfer, the proxy's endpoints. Only the entrypoint makes the command itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clusters.compile import recipe
from clusters.compile.addresses import addressed
from clusters.compile.containers import proxy_container, serving_container
from clusters.compile.locate import in_file
from clusters.compile.placement import Placement, placements
from clusters.compile.planning import Planned, plan
from clusters.compile.ports import PortAllocator
from clusters.deployment import Container, Deployment, Group
from clusters.model import Cluster
from common.errors import Finding
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.inputs import data


def deployment(cluster: Cluster) -> Deployment:
    """The compiled cluster. All errors and warnings are in its findings; nothing is raised."""
    with data.CachedReads():
        return _deployment(cluster)


def _deployment(cluster: Cluster) -> Deployment:
    cluster = replace(cluster, nodes=addressed(cluster.nodes))
    refused: list[LaunchFinding] = []
    roles = recipe.roles(cluster, refused)
    texts = {name: recipe.text(cluster, one, roles) for name, one in cluster.instances.items()}
    findings = [in_file(cluster, None, finding) for finding in refused]
    allocator = PortAllocator()
    groups = [
        _group(cluster, members, texts[members[0].instance.name], allocator, findings)
        for members in placements(cluster, roles, texts)
    ]
    proxy = _proxy(cluster, groups, texts, allocator, findings) if cluster.proxy else None
    return Deployment(cluster, tuple(groups), proxy, tuple(sorted(set(findings))))


def _group(
    cluster: Cluster,
    members: Sequence[Placement],
    text: str,
    allocator: PortAllocator,
    findings: list[Finding],
) -> Group:
    """One replica, with ports that earlier replicas on the same hosts do not use."""
    instance = members[0].instance

    def plan_all(ports: Mapping[str, int] | None = None) -> list[Planned]:
        return [plan(cluster, serving_container(cluster, one, text, ports)) for one in members]

    planned = plan_all()
    if moves := allocator.reassign(planned, instance.ports):
        planned = plan_all(moves)
    allocator.add(planned)
    findings += _found(cluster, planned)
    first = planned[0].container
    served = planned if instance.external else planned[:1]
    return Group(
        name=first.name.rpartition("-")[0],
        instance=first.instance,
        replica=first.replica,
        role=members[0].role,
        containers=tuple(one.container for one in planned),
        endpoints=tuple((one.address, one.ports["api"][0]) for one in served if "api" in one.ports),
    )


def _proxy(
    cluster: Cluster,
    groups: Sequence[Group],
    texts: Mapping[str, str],
    allocator: PortAllocator,
    findings: list[Finding],
) -> Container:
    """The proxy of all prefill and decode groups."""
    planned = plan(cluster, proxy_container(cluster, groups, texts))
    fixed = ("api",) if cluster.proxy and cluster.proxy.port else ()
    if moves := allocator.reassign([planned], fixed):
        planned = plan(cluster, proxy_container(cluster, groups, texts, moves))
    allocator.add([planned])
    findings += _found(cluster, [planned])
    return planned.container


def _found(cluster: Cluster, planned: Sequence[Planned]) -> list[Finding]:
    return [
        in_file(cluster, one.container, finding)
        for one in planned
        for finding in (
            *one.findings,
            *(one.container.launch.warnings if one.container.launch else ()),
        )
    ]
