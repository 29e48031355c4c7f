"""The cluster as it is rehearsed: the same file, with what this machine has for nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network

from clusters.compile import deployment
from clusters.deployment import Deployment
from clusters.model import Cluster, Instance, Kubernetes, Override, Secret
from common.errors import ERROR, EX_DATAERR, Finding, UserError
from validation.rehearsal.engines import Engine
from validation.rehearsal.sizes import Machine

NIC = "eth0"  # of every container on a Docker network
KEY = "rehearsal"  # what every secret is
FIRST = 10  # addresses below are the network's own


@dataclass(frozen=True)
class Cast:
    """`changes`: what is otherwise than in the file, in words."""

    deployment: Deployment
    changes: tuple[str, ...]


def cast(cluster: Cluster, network: IPv4Network, engine: Engine, machine: Machine) -> Cast:
    """The rehearsal's deployment on an engine, with addresses of `network`.

    Raises UserError (65) when the network is too small, or the deployment has errors, and what the
    engine's translation raises.
    """
    if len(cluster.nodes) + FIRST >= network.num_addresses:
        where, what = f"{cluster.file}: nodes", f"{len(cluster.nodes)} do not fit into {network}"
        raise UserError([Finding(where, what, "take a part of the file")], EX_DATAERR)
    said = _changes(cluster, network, engine)
    cluster, changes = engine.translate(cluster, machine)
    nodes = {
        name: replace(node, address=str(network[FIRST + at]), nic=NIC, context="", placed=False)
        for at, (name, node) in enumerate(cluster.nodes.items())
    }
    proxy = cluster.proxy
    if proxy and proxy.node not in nodes:
        proxy = replace(proxy, node=next(iter(nodes)), replicas=1)
    here = replace(
        cluster,
        name=f"{cluster.name}-rehearsal",
        image=engine.image,
        nodes=nodes,
        proxy=proxy,
        volumes=(),
        secrets=tuple(Secret(one.variable, env=one.variable) for one in cluster.secrets),
        run=replace(cluster.run, preflight="off"),
        kubernetes=Kubernetes(),
        options=(),
    )
    made = deployment(here)
    npus = _npus(made)
    if npus:
        made = deployment(_told_npus(here, npus))
    wrong = [one for one in made.findings if one.severity == ERROR]
    if wrong:
        problems = [Finding(f"{one.file}:{one.line}: {one.where}", one.message) for one in wrong]
        raise UserError(problems, EX_DATAERR)
    told = (f"Ray is told of {number} NPUs on each node of {name}" for name, number in npus.items())
    return Cast(made, (*said, *changes, *told))


def _npus(made: Deployment) -> dict[str, int]:
    """Instance under Ray → NPUs of each of its nodes, which Ray would count as devices."""
    return {
        group.instance: head.launch.npus // len(group.containers)
        for group in made.groups
        for head in group.containers[:1]
        if head.launch and head.launch.npus
    }


def _told_npus(cluster: Cluster, npus: Mapping[str, int]) -> Cluster:
    def told(instance: Instance) -> Instance:
        number = json.dumps({"NPU": npus[instance.name]})
        overrides = dict(instance.overrides)
        for node in instance.nodes:
            own = overrides.get(node, Override())
            args = f"{own.env.get('RAY_ARGS', '')} --resources '{number}'".strip()
            overrides[node] = replace(own, env={**own.env, "RAY_ARGS": args})
        return replace(instance, overrides=overrides)

    return replace(
        cluster,
        instances={
            name: told(one) if name in npus else one for name, one in cluster.instances.items()
        },
    )


def _changes(cluster: Cluster, network: IPv4Network, engine: Engine) -> Sequence[str]:
    said = [
        f"the {len(cluster.nodes)} nodes have addresses of {network} and the interface {NIC}",
        f"every container runs {engine.image}: {engine.runs}, without the preflight of a node",
    ]
    if cluster.secrets:
        said.append(f"every secret is '{KEY}'")
    if cluster.options:
        said.append(f"left out: {' '.join(cluster.options)}")
    if cluster.proxy and cluster.proxy.node not in cluster.nodes:
        said.append("one proxy, on the first node")
    return said
