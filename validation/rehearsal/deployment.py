"""The deployment of a rehearsal: the user's cluster file with this machine's network and image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network

from clusters.compile import deployment
from clusters.deployment import Deployment
from clusters.model import Cluster, Instance, Kubernetes, Override, Secret
from common.errors import ERROR, EX_DATAERR, Finding, UserError
from validation.rehearsal.engine import Engine
from validation.rehearsal.parallel_sizes import Machine

NIC = "eth0"  # of every container on a Docker network
KEY = "rehearsal"  # the value of every secret
FIRST_ADDRESS = 10  # lower addresses are reserved for the network itself


@dataclass(frozen=True)
class RehearsalDeployment:
    """`changes`: a line for each difference from the user's file."""

    deployment: Deployment
    changes: tuple[str, ...]


def rehearsal_deployment(
    cluster: Cluster, network: IPv4Network, engine: Engine, machine: Machine
) -> RehearsalDeployment:
    """Return the deployment that `engine` runs, with addresses of `network`.

    Raises UserError (65) if the network is too small or the deployment has errors, and whatever
    the engine's translation raises.
    """
    if len(cluster.nodes) + FIRST_ADDRESS >= network.num_addresses:
        where, what = f"{cluster.file}: nodes", f"{len(cluster.nodes)} do not fit into {network}"
        raise UserError([Finding(where, what, "rehearse a part of the file")], EX_DATAERR)
    changes = list(_changes(cluster, network, engine))
    cluster, translated = engine.translate(cluster, machine)
    nodes = {
        name: replace(
            node, address=str(network[FIRST_ADDRESS + index]), nic=NIC, context="", placed=False
        )
        for index, (name, node) in enumerate(cluster.nodes.items())
    }
    proxy = cluster.proxy
    if proxy and proxy.node not in nodes:
        proxy = replace(proxy, node=next(iter(nodes)), replicas=1)
    local = replace(
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
    compiled = deployment(local)
    npus = _ray_npus(compiled)
    if npus:
        compiled = deployment(_with_ray_resources(local, npus))
    raise_errors(compiled)
    ray = (f"Ray gets {number} NPUs on each node of {name}" for name, number in npus.items())
    return RehearsalDeployment(compiled, (*changes, *translated, *ray))


def raise_errors(compiled: Deployment) -> None:
    """Raise UserError (65) if the deployment has errors."""
    errors = [one for one in compiled.findings if one.severity == ERROR]
    if errors:
        findings = [Finding(f"{one.file}:{one.line}: {one.where}", one.message) for one in errors]
        raise UserError(findings, EX_DATAERR)


def _ray_npus(compiled: Deployment) -> dict[str, int]:
    """Map each instance under Ray to the NPUs per node, which Ray would detect on real nodes."""
    return {
        group.instance: head.launch.npus // len(group.containers)
        for group in compiled.groups
        for head in group.containers[:1]
        if head.launch and head.launch.npus
    }


def _with_ray_resources(cluster: Cluster, npus: Mapping[str, int]) -> Cluster:
    def with_resources(instance: Instance) -> Instance:
        number = json.dumps({"NPU": npus[instance.name]})
        overrides = dict(instance.overrides)
        for node in instance.nodes:
            own = overrides.get(node, Override())
            args = f"{own.env.get('RAY_ARGS', '')} --resources '{number}'".strip()
            overrides[node] = replace(own, env={**own.env, "RAY_ARGS": args})
        return replace(instance, overrides=overrides)

    changed = {name: with_resources(cluster.instances[name]) for name in npus}
    return replace(cluster, instances={**cluster.instances, **changed})


def _changes(cluster: Cluster, network: IPv4Network, engine: Engine) -> Iterator[str]:
    yield f"the {len(cluster.nodes)} nodes have addresses of {network} and the interface {NIC}"
    yield f"every container runs {engine.image}: {engine.description}, without the node preflight"
    if cluster.secrets:
        yield f"every secret is '{KEY}'"
    if cluster.options:
        yield f"left out: {' '.join(cluster.options)}"
    if cluster.proxy and cluster.proxy.node not in cluster.nodes:
        yield "one proxy, on the first node"
