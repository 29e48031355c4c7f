"""What Kubernetes cannot give, or can give only in another way: said all at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from clusters.deployment import Container, Deployment
from clusters.render.kubernetes.env import ADDRESS, INTERFACE
from common.errors import EX_DATAERR, Finding, UserError

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")  # a Service's name: RFC 1035


def raise_if_any(problems: Sequence[Finding]) -> None:
    """Raises UserError (65) with all of them, if there are any."""
    if problems:
        raise UserError(problems, EX_DATAERR)


def cluster(deployment: Deployment) -> Iterator[Finding]:
    """Of any cluster."""
    said = deployment.cluster
    containers = sum(one.each * one.replicas for one in said.instances.values()) + bool(said.proxy)
    if len(deployment.containers) < containers:
        fix = "leave it out: one file has the pods of all nodes"
        yield Finding("--node", "goes with docker and compose only", fix)
    for secret in said.secrets:
        if not secret.secret:
            where = f"{said.file}: secrets.{secret.variable}"
            what = "is a variable or a file of the machine that starts containers"
            yield Finding(where, what, "give `{secret: NAME, key: KEY}`, a Secret of Kubernetes")
    if said.options:
        what = f"are of docker run: {' '.join(said.options)}"
        fix = "say in kubernetes.pod what pods need, and leave options out"
        yield Finding(f"{said.file}: options", what, fix)
    for name, instance in said.instances.items():
        if instance.external:
            where = f"{said.file}: instances.{name}.external"
            what = (
                "puts several pods on a node, whose NPUs HCCL takes for those of different"
                " servers (vllm-ascend#14506)"
            )
            yield Finding(where, what, "leave it out: one pod a node holds all of its ranks")


def service_name(deployment: Deployment, made: str, longest: int) -> Iterator[Finding]:
    """Of a name that becomes a Service's."""
    where = f"{deployment.cluster.file}: name"
    if not _LABEL.fullmatch(made):
        yield Finding(where, f"'{made}' does not begin with a letter", "choose another name")
    if len(made) > longest:
        what = f"'{made}' has {len(made)} characters, {longest} are possible"
        yield Finding(where, what, "choose shorter names of cluster and instance")


def same_template(
    deployment: Deployment, containers: Sequence[Container], who: str, besides: Iterable[str] = ()
) -> Iterator[Finding]:
    """Of containers that are made from one pod template. `besides`: variables that may differ."""
    where = f"{deployment.cluster.file}: instances.{containers[0].instance}"
    fix = "say it for the whole instance, or in an instance of its own"
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
            yield Finding(where, f"{who} are alike, and these differ in {name}", fix)
