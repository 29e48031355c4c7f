"""A LeaderWorkerSet for each instance, a Deployment for the proxy, and Services for both.

A pod learns its place from its set: LWS_LEADER_ADDRESS, LWS_GROUP_SIZE and LWS_WORKER_INDEX replace
LEADER_IP, NODES and NODE_RANK. When a node fails, its whole group restarts: a group of vLLM cannot
take a node back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from clusters.deployment import Container, Deployment, Group
from clusters.render.kubernetes import env, labels, limits, pod, yaml_text
from clusters.render.kubernetes.labels import FACTS
from common.errors import Finding
from entrypoints.inputs.settings import VARIABLES

# The LeaderWorkerSet sets these under its own names.
_BY_THE_SET = tuple(variable.name for variable in VARIABLES if variable.lws_variable)
_ID, _GROUP = "ENGINE_ID", "GROUP_INDEX"
_SIDES = {"PREFILL_ENDPOINTS": "prefill", "DECODE_ENDPOINTS": "decode"}


def files(deployment: Deployment) -> dict[str, str]:
    """File name → text. Raises UserError (65) for settings that manifests cannot express."""
    cluster = deployment.cluster
    findings = list(limits.cluster(deployment))
    manifests = [labels.account(cluster)]
    replicas: dict[str, list[Group]] = {}
    for group in deployment.groups:
        replicas.setdefault(group.instance, []).append(group)
    for groups in replicas.values():
        manifests += _instance(deployment, groups, findings)
    if deployment.proxy:
        manifests += _proxy(deployment, deployment.proxy, replicas)
    findings += _duplicate_services(deployment, manifests)
    limits.raise_if_any(findings)
    comment = (
        f"From {PurePath(cluster.file).name}. It needs the LeaderWorkerSet controller"
        f" (leaderworkerset.x-k8s.io/v1)\nand a device plugin for {cluster.kubernetes.resource}."
    )
    return {"lws.yaml": yaml_text.to_yaml(manifests, comment)}


def _set_name(deployment: Deployment, instance: str) -> str:
    return f"{deployment.cluster.name}-{instance}"


def _instance(
    deployment: Deployment, groups: Sequence[Group], findings: list[Finding]
) -> list[dict[str, Any]]:
    """The set of an instance, and the Service of its leaders' API."""
    cluster, instance = deployment.cluster, groups[0].instance
    name = _set_name(deployment, instance)
    findings += limits.service_name(
        deployment, name, FACTS["lws"]["longest"] - len(f"-{len(groups) - 1}")
    )
    leaders = [group.containers[0] for group in groups]
    size = len(groups[0].containers)
    templates = {
        "workerTemplate": _template(deployment, leaders, 1, findings)
    }  # also of the leaders
    if size > 1:
        workers = [worker for group in groups for worker in group.containers[1:]]
        templates = {
            "leaderTemplate": templates["workerTemplate"],
            "workerTemplate": _template(deployment, workers, size - 1, findings),
        }
    result = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": labels.metadata(cluster, name, instance),
        "spec": {
            "replicas": len(groups),
            "startupPolicy": "LeaderCreated",
            "networkConfig": {"subdomainPolicy": "Shared"},
            "leaderWorkerTemplate": {
                "size": size,
                "restartPolicy": "RecreateGroupOnPodRestart",
                **templates,
            },
        },
    }
    if not groups[0].endpoints:
        return [result]
    pods = {FACTS["lws"]["name_label"]: name, FACTS["lws"]["index_label"]: "0"}
    port = {"api": groups[0].endpoints[0][1]}
    return [result, labels.service(cluster, f"{name}-api", instance, pods, port)]


def _template(
    deployment: Deployment, containers: Sequence[Container], each: int, findings: list[Finding]
) -> dict[str, Any]:
    """The one template of these containers; every `each` of them form a group."""
    cluster, first = deployment.cluster, containers[0]
    who = "leaders" if first.rank == 0 else "workers"
    own = _identity(containers[::each])
    findings += limits.same_template(
        deployment, containers, f"the {who} of a LeaderWorkerSet", (*_BY_THE_SET, *own)
    )
    entries = env.entries(cluster, first, _BY_THE_SET, own)
    nodes = [one.node.name for one in containers if not one.node.placed]
    return pod.template(cluster, first.instance, first, entries, nodes)


def _identity(containers: Sequence[Container]) -> dict[str, env.Entry]:
    """Each replica's ENGINE_ID, from the group number in a label of the pod."""
    texts = [one.env.get(_ID, "") for one in containers]
    text = env.numbered_template(texts, _GROUP) if len(set(texts)) > 1 else None
    if text is None:
        return {}
    label = env.field_reference(_GROUP, f"metadata.labels['{FACTS['lws']['group_label']}']")
    return {_GROUP: label, _ID: {"name": _ID, "value": text}}


def _proxy(
    deployment: Deployment, container: Container, replicas: dict[str, list[Group]]
) -> list[dict[str, Any]]:
    """The proxy and its Service. It addresses leaders by the names that the sets give them."""
    cluster = deployment.cluster
    name = f"{cluster.name}-proxy"
    instead = {
        variable: env.entry(variable, ",".join(_leaders(deployment, side, replicas)))
        for variable, side in _SIDES.items()
    }
    instead |= {name: env.entry(name, text) for name, text in FACTS["no_devices"].items()}
    entries = env.entries(cluster, container, instead=instead)
    nodes = [] if container.node.placed else [container.node.name]
    pods = {
        key: value
        for key, value in labels.of(cluster, "proxy").items()
        if not key.endswith("/version")
    }
    result = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labels.metadata(cluster, name, "proxy"),
        "spec": {
            "replicas": cluster.proxy.replicas if cluster.proxy else 1,
            "selector": {"matchLabels": pods},
            "template": pod.template(cluster, "proxy", container, entries, nodes),
        },
    }
    return [result, labels.service(cluster, name, "proxy", pods, pod.ports(container))]


def _leaders(deployment: Deployment, side: str, replicas: dict[str, list[Group]]) -> list[str]:
    """host:port of every leader of a side, named by the set's headless Service."""
    return [
        f"{name}-{number}.{name}:{port}"
        for instance, groups in replicas.items()
        if groups[0].role == side
        for name in (_set_name(deployment, instance),)
        for number, group in enumerate(groups)
        for _, port in group.endpoints
    ]


def _duplicate_services(
    deployment: Deployment, manifests: Sequence[dict[str, Any]]
) -> list[Finding]:
    """Findings about Services with one name; each set makes one with its own name."""
    names = [
        manifest["metadata"]["name"]
        for manifest in manifests
        if manifest["kind"] in ("Service", "LeaderWorkerSet")
    ]
    where = f"{deployment.cluster.file}: instances"
    return [
        Finding(where, f"two Services would have the name '{name}'", "rename an instance")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
