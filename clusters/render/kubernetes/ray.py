"""A RayCluster of KubeRay for each replica of a Ray instance, and a Service for its API.

The containers run their own command, as everywhere: the operator's command would start Ray without
the variables of the recipe, and serve nothing. A RayService does not fit: it starts applications of
Ray Serve, which `vllm serve` is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from clusters.deployment import Container, Deployment, Group
from clusters.render.kubernetes import env, labels, limits, pod
from clusters.render.kubernetes.labels import FACTS, Manifest
from common.errors import Finding
from entrypoints.launch.ray import HEAD_PORT


def files(deployment: Deployment) -> dict[str, str]:
    """File name → text. Raises UserError (65) for anything but Ray clusters."""
    cluster = deployment.cluster
    findings = [*limits.cluster(deployment), *_only_ray(deployment)]
    limits.raise_if_any(findings)
    manifests = [labels.account(cluster)]
    for group in deployment.groups:
        manifests += _group(deployment, group, findings)
    limits.raise_if_any(findings)
    comment = (
        f"From {PurePath(cluster.file).name}. It needs the KubeRay operator (ray.io/v1)\n"
        f"and a device plugin for {cluster.kubernetes.resource}."
    )
    return {"ray.yaml": labels.to_yaml(manifests, comment)}


def _only_ray(deployment: Deployment) -> list[Finding]:
    file, fix = deployment.cluster.file, "render it with --to lws"
    findings = [
        Finding(f"{file}: instances.{name}", f"is not a Ray cluster: its role is {role}", fix)
        for name, role in {group.instance: group.role for group in deployment.groups}.items()
        if role != "ray-head"
    ]
    if deployment.proxy:
        what = "is for prefill and decode servers, which are not Ray clusters"
        findings.append(Finding(f"{file}: proxy", what, fix))
    return findings


def _group(deployment: Deployment, group: Group, findings: list[Finding]) -> list[Manifest]:
    cluster, (head, *workers) = deployment.cluster, group.containers
    findings += limits.service_name(deployment, group.name, FACTS["ray"]["longest"])
    port = {"port": head.env.get("RAY_PORT") or str(HEAD_PORT)}
    template = _template(deployment, group, [head], findings)
    spec: Manifest = {"headGroupSpec": {"rayStartParams": port, "template": template}}
    if workers:
        number = dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), len(workers))
        template = _template(deployment, group, workers, findings)
        own = {"groupName": "workers", **number, "rayStartParams": {}, "template": template}
        spec["workerGroupSpecs"] = [own]
    metadata = labels.metadata(cluster, group.name, group.instance)
    metadata["annotations"] = {FACTS["ray"]["overwrite"]: "true"}
    result = labels.manifest("ray.io/v1", "RayCluster", metadata, spec=spec)
    if not group.endpoints:
        return [result]
    pods = {FACTS["ray"]["cluster_label"]: group.name, FACTS["ray"]["type_label"]: "head"}
    ports = {"api": group.endpoints[0][1]}
    return [result, labels.service(cluster, f"{group.name}-api", group.instance, pods, ports)]


def _template(
    deployment: Deployment, group: Group, containers: Sequence[Container], findings: list[Finding]
) -> Manifest:
    cluster, first = deployment.cluster, containers[0]
    findings += limits.same_template(deployment, containers, "the workers of a RayCluster")
    leader = env.entry("LEADER_IP", group.name + FACTS["ray"]["head"])
    entries = env.entries(cluster, first, instead={"LEADER_IP": leader} if first.rank else None)
    nodes = [one.node.name for one in containers if not one.node.placed]
    # The operator sets app.kubernetes.io/name, by which the Service of the head finds its pod.
    own = labels.of(cluster, first.instance)
    del own[labels.NAME]
    return pod.template(cluster, first.instance, first, entries, nodes, own)
