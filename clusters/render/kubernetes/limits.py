"""Settings that Kubernetes manifests cannot express, all reported at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from clusters.deployment import Container, Deployment
from clusters.render.kubernetes.env import ADDRESS, INTERFACE
from common.errors import EX_DATAERR, Finding, UserError

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")  # a Service's name: RFC 1035


def raise_if_any(findings: Sequence[Finding]) -> None:
    """Raise UserError (65) with the findings, if there are any."""
    if findings:
        raise UserError(findings, EX_DATAERR)


def cluster(deployment: Deployment) -> Iterator[Finding]:
    """Findings for every kind of manifest."""
    cluster = deployment.cluster
    containers = sum(one.each * one.replicas for one in cluster.instances.values())
    if len(deployment.containers) < containers + bool(cluster.proxy):
        fix = "leave it out: one file holds the pods of all nodes"
        yield Finding("--node", "is for docker and compose only", fix)
    for secret in cluster.secrets:
        if not secret.secret:
            where = f"{cluster.file}: secrets.{secret.variable}"
            what = "is a variable or a file of the machine that starts the containers"
            yield Finding(where, what, "give `{secret: NAME, key: KEY}`, a Kubernetes Secret")
    if cluster.options:
        what = f"are for docker run: {' '.join(cluster.options)}"
        fix = "write the pod settings in kubernetes.pod, and leave out options"
        yield Finding(f"{cluster.file}: options", what, fix)
    for name, instance in cluster.instances.items():
        if instance.external:
            where = f"{cluster.file}: instances.{name}.external"
            what = (
                "puts several pods on a node, and HCCL takes their NPUs for those of different"
                " servers (vllm-ascend#14506)"
            )
            fix = "leave it out: one pod on each node then runs all of its ranks"
            yield Finding(where, what, fix)


def service_name(deployment: Deployment, name: str, longest: int) -> Iterator[Finding]:
    """Findings about a name that a Service gets."""
    where = f"{deployment.cluster.file}: name"
    if not _LABEL.fullmatch(name):
        yield Finding(where, f"'{name}' does not begin with a letter", "choose another name")
    if len(name) > longest:
        what = f"'{name}' has {len(name)} characters, the maximum is {longest}"
        yield Finding(where, what, "choose shorter names for the cluster and the instance")


def same_template(
    deployment: Deployment, containers: Sequence[Container], who: str, besides: Iterable[str] = ()
) -> Iterator[Finding]:
    """Findings about containers of one pod template. `besides`: variables that may differ."""
    where = f"{deployment.cluster.file}: instances.{containers[0].instance}"
    fix = "set it for the whole instance, or in a separate instance"
    free = {ADDRESS, INTERFACE, *besides}
    names = {name: None for one in containers for name in one.env if name not in free}
    seen: dict[str, set[Any]] = {
        **{name: {one.env.get(name) for one in containers} for name in names},
        "platform": {one.node.platform for one in containers},
        "arguments": {one.arguments for one in containers},
        "number of devices": {len(one.devices) for one in containers},
    }
    for name, values in seen.items():
        if len(values) > 1:
            yield Finding(where, f"{who} share one template, but differ in {name}", fix)
