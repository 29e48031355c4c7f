"""Compiles a cluster file: what each container gets, and what its entrypoint plans from that.

Everything that nodes must agree on is derived here: ranks, leaders, devices, ports, the sizes of
both sides of a KV transfer, the proxy's endpoints. Only the entrypoint makes the command itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.inputs import data


def deployment(cluster: Cluster) -> Deployment:
    """The compiled cluster. All errors and warnings are in its findings; nothing is raised."""
    with data.CachedReads():
        return _Compiler(replace(cluster, nodes=addressed(cluster.nodes))).deployment()


class _Compiler:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.allocator = PortAllocator()
        refused: list[LaunchFinding] = []
        self.roles = recipe.roles(cluster, refused)
        self.findings = [in_file(cluster, None, finding) for finding in refused]
        instances = cluster.instances.items()
        self.texts = {name: recipe.text(cluster, one, self.roles) for name, one in instances}

    def deployment(self) -> Deployment:
        members = placements(self.cluster, self.roles, self.texts)
        groups = tuple(self.group(each) for each in members)
        proxy = self.proxy(groups) if self.cluster.proxy else None
        return Deployment(self.cluster, groups, proxy, tuple(sorted(set(self.findings))))

    def group(self, members: Sequence[Placement]) -> Group:
        """One replica."""
        instance = members[0].instance
        text = self.texts[instance.name]

        def make(ports: Mapping[str, int] | None) -> list[Container]:
            return [serving_container(self.cluster, one, text, ports) for one in members]

        planned = self.plan(make, instance.ports)
        first = planned[0].container
        served = planned if instance.external else planned[:1]
        ports = ((one.address, one.ports["api"][0]) for one in served if "api" in one.ports)
        return Group(
            name=first.name.rpartition("-")[0],
            instance=first.instance,
            replica=first.replica,
            role=members[0].role,
            containers=tuple(one.container for one in planned),
            endpoints=tuple(ports),
        )

    def proxy(self, groups: Sequence[Group]) -> Container:
        """The proxy of all prefill and decode groups."""

        def make(ports: Mapping[str, int] | None) -> list[Container]:
            return [proxy_container(self.cluster, groups, self.texts, ports)]

        fixed = ("api",) if self.cluster.proxy and self.cluster.proxy.port else ()
        return self.plan(make, fixed)[0].container

    def plan(
        self, make: Callable[[Mapping[str, int] | None], list[Container]], fixed: Collection[str]
    ) -> list[Planned]:
        """Plan containers, with ports that earlier ones on the same hosts do not use."""
        planned = [plan(self.cluster, one) for one in make(None)]
        if moves := self.allocator.reassign(planned, fixed):
            planned = [plan(self.cluster, one) for one in make(moves)]
        self.allocator.add(planned)
        for one in planned:
            warnings = one.container.launch.warnings if one.container.launch else ()
            found = (*one.findings, *warnings)
            self.findings += [in_file(self.cluster, one.container, each) for each in found]
        return planned
