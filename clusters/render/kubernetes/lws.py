"""A LeaderWorkerSet for each instance, a Deployment for the proxy, and Services for both.

A pod learns its place from its set: LWS_LEADER_ADDRESS, LWS_GROUP_SIZE and LWS_WORKER_INDEX replace
LEADER_IP, NODES and NODE_RANK. When a node fails, its whole group restarts: a group of vLLM cannot
take a node back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from clusters.deployment import Container, Deployment, Group
from clusters.render.kubernetes import env, labels, limits, pod
from clusters.render.kubernetes.labels import FACTS, Manifest
from common.errors import Finding
from entrypoints.inputs.settings import VARIABLES

# The LeaderWorkerSet sets these under its own names.
_BY_THE_SET = tuple(variable.name for variable in VARIABLES if variable.lws_variable)
_ID, _GROUP = "ENGINE_ID", "GROUP_INDEX"
_SIDES = {"PREFILL_ENDPOINTS": "prefill", "DECODE_ENDPOINTS": "decode"}


def files(deployment: Deployment) -> dict[str, str]:
    """File name → text. Raises UserError (65) for settings that manifests cannot express."""
    return {"lws.yaml": _Manifests(deployment).text()}


class _Manifests:
    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.cluster = deployment.cluster
        self.findings = list(limits.cluster(deployment))
        self.replicas: dict[str, list[Group]] = {}
        for group in deployment.groups:
            self.replicas.setdefault(group.instance, []).append(group)

    def text(self) -> str:
        manifests = [labels.account(self.cluster)]
        for groups in self.replicas.values():
            manifests += self.instance(groups)
        if self.deployment.proxy:
            manifests += self.proxy(self.deployment.proxy)
        self.findings += self.duplicate_services(manifests)
        limits.raise_if_any(self.findings)
        comment = (
            f"From {PurePath(self.cluster.file).name}. It needs the LeaderWorkerSet controller"
            " (leaderworkerset.x-k8s.io/v1)\n"
            f"and a device plugin for {self.cluster.kubernetes.resource}."
        )
        return labels.to_yaml(manifests, comment)

    def set_name(self, instance: str) -> str:
        return f"{self.cluster.name}-{instance}"

    def instance(self, groups: Sequence[Group]) -> list[Manifest]:
        """The set of an instance, and the Service of its leaders' API."""
        instance, size = groups[0].instance, len(groups[0].containers)
        name = self.set_name(instance)
        longest = FACTS["lws"]["longest"] - len(f"-{len(groups) - 1}")
        self.findings += limits.service_name(self.deployment, name, longest)
        leader = self.template([group.containers[0] for group in groups], 1)
        templates = {"workerTemplate": leader}  # also of the leaders
        if size > 1:
            workers = [worker for group in groups for worker in group.containers[1:]]
            worker = self.template(workers, size - 1)
            templates = {"leaderTemplate": leader, "workerTemplate": worker}
        spec = {
            "replicas": len(groups),
            "startupPolicy": "LeaderCreated",
            "networkConfig": {"subdomainPolicy": "Shared"},
            "leaderWorkerTemplate": {
                "size": size,
                "restartPolicy": "RecreateGroupOnPodRestart",
                **templates,
            },
        }
        metadata = labels.metadata(self.cluster, name, instance)
        result = labels.manifest(
            "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", metadata, spec=spec
        )
        if not groups[0].endpoints:
            return [result]
        pods = {FACTS["lws"]["name_label"]: name, FACTS["lws"]["index_label"]: "0"}
        port = {"api": groups[0].endpoints[0][1]}
        return [result, labels.service(self.cluster, f"{name}-api", instance, pods, port)]

    def template(self, containers: Sequence[Container], each: int) -> Manifest:
        """The template that these containers share; each group has `each` of them."""
        first = containers[0]
        who = f"the {'leaders' if first.rank == 0 else 'workers'} of a LeaderWorkerSet"
        own = _identity(containers[::each])
        besides = (*_BY_THE_SET, *own)
        self.findings += limits.same_template(self.deployment, containers, who, besides)
        entries = env.entries(self.cluster, first, _BY_THE_SET, own)
        nodes = [one.node.name for one in containers if not one.node.placed]
        return pod.template(self.cluster, first.instance, first, entries, nodes)

    def proxy(self, container: Container) -> list[Manifest]:
        """The proxy and its Service. It addresses leaders by the names that the sets give them."""
        cluster, name = self.cluster, self.set_name("proxy")
        values = {variable: ",".join(self.leaders(side)) for variable, side in _SIDES.items()}
        values |= FACTS["no_devices"]
        instead = {variable: env.entry(variable, text) for variable, text in values.items()}
        entries = env.entries(cluster, container, instead=instead)
        nodes = [] if container.node.placed else [container.node.name]
        pods = labels.of(cluster, "proxy")
        del pods[labels.VERSION]
        spec = {
            "replicas": cluster.proxy.replicas if cluster.proxy else 1,
            "selector": {"matchLabels": pods},
            "template": pod.template(cluster, "proxy", container, entries, nodes),
        }
        metadata = labels.metadata(cluster, name, "proxy")
        return [
            labels.manifest("apps/v1", "Deployment", metadata, spec=spec),
            labels.service(cluster, name, "proxy", pods, pod.ports(container)),
        ]

    def leaders(self, side: str) -> list[str]:
        """host:port of every leader of a side, named by the set's headless Service."""
        return [
            f"{name}-{number}.{name}:{port}"
            for instance, groups in self.replicas.items()
            if groups[0].role == side
            for name in (self.set_name(instance),)
            for number, group in enumerate(groups)
            for _, port in group.endpoints
        ]

    def duplicate_services(self, manifests: Sequence[Manifest]) -> list[Finding]:
        """Findings about Services with one name; each set makes one with its own name."""
        kinds = ("Service", "LeaderWorkerSet")
        names = Counter(one["metadata"]["name"] for one in manifests if one["kind"] in kinds)
        where = f"{self.cluster.file}: instances"
        return [
            Finding(where, f"two Services would have the name '{name}'", "rename an instance")
            for name, count in names.items()
            if count > 1
        ]


def _identity(containers: Sequence[Container]) -> dict[str, env.Entry]:
    """Each replica's ENGINE_ID, from the group number in a label of the pod."""
    texts = [one.env.get(_ID, "") for one in containers]
    text = env.numbered_template(texts, _GROUP) if len(set(texts)) > 1 else None
    if text is None:
        return {}
    label = env.field_reference(_GROUP, f"metadata.labels['{FACTS['lws']['group_label']}']")
    return {_GROUP: label, _ID: {"name": _ID, "value": text}}
