"""Pod templates: resources, probes, volumes, scheduling and permissions of each container."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clusters.deployment import Container
from clusters.model import Cluster, Volume
from clusters.render.kubernetes import labels
from clusters.render.kubernetes.env import Entry, escape
from clusters.render.kubernetes.labels import FACTS
from clusters.runtime.spec import AFTER_DRAIN, multi_node
from entrypoints.inputs import data
from entrypoints.preflight import docker
from entrypoints.running.start import WAIT_TIMEOUT
from entrypoints.running.supervise import DRAIN

# Container names, to which kubernetes.pod in a cluster file can refer.
SERVER, PROXY = "server", "proxy"
_HOST_NAME = "kubernetes.io/hostname"


def template(
    cluster: Cluster,
    component: str,
    container: Container,
    env: list[Entry],
    nodes: Iterable[str],
    own_labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The pod template of a container. `nodes`: names of the nodes it may run on; empty: any."""
    proxy = container.role == "proxy"
    volumes = [] if proxy else _volumes(cluster, container)
    drain = DRAIN if cluster.run.drain_timeout is None else cluster.run.drain_timeout
    spec = {
        "serviceAccountName": cluster.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **(FACTS["host_network"] if cluster.kubernetes.host_network else {}),
        "terminationGracePeriodSeconds": int(FACTS["pre_stop"]) + drain + AFTER_DRAIN,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        **_scheduling(cluster, sorted(set(nodes))),
        "containers": [_container(cluster, container, env, [mount for mount, _ in volumes])],
    }
    if cluster.kubernetes.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.kubernetes.pull_secrets]
    if volumes:
        spec["volumes"] = [volume for _, volume in volumes]
    known = own_labels if own_labels is not None else labels.of(cluster, component)
    return {"metadata": {"labels": dict(known)}, "spec": merge(spec, _overrides(cluster, proxy))}


def ports(container: Container) -> dict[str, int]:
    """The single ports on which a container listens; without the ranges of the transport."""
    if container.command or container.launch is None:
        return {}
    return {
        name.replace("_", "-"): port
        for name, port in container.launch.ports.items()
        if isinstance(port, int)
    }


def merge(under: Any, over: Any) -> Any:
    """Merge `over` into `under`: mappings by key, lists of named mappings by name, else replace."""
    if isinstance(under, Mapping) and isinstance(over, Mapping):
        both = {key: merge(value, over[key]) for key, value in under.items() if key in over}
        return {**under, **over, **both}
    if isinstance(under, list) and isinstance(over, list) and _named(under) and _named(over):
        known = {item["name"]: item for item in over}
        kept = [merge(item, known.pop(item["name"], {})) for item in under]
        return [*kept, *known.values()]
    return over


def _overrides(cluster: Cluster, proxy: bool) -> Mapping[str, Any]:
    """kubernetes.pod of the file, without the container of the other kind."""
    pod = cluster.kubernetes.pod
    other = SERVER if proxy else PROXY
    containers = pod.get("containers")
    if not isinstance(containers, list) or not _named(containers):
        return pod
    return {**pod, "containers": [one for one in containers if one["name"] != other]}


def _named(items: list[Any]) -> bool:
    return all(isinstance(item, Mapping) and "name" in item for item in items)


def _container(
    cluster: Cluster, container: Container, env: list[Entry], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    proxy = container.role == "proxy"
    result: dict[str, Any] = {"name": PROXY if proxy else SERVER, "image": container.image}
    words = container.command or container.arguments
    if words:
        result["args"] = [escape(word) for word in words]
    result["env"] = env
    listens = ports(container)
    if listens:
        result["ports"] = [{"name": name, "containerPort": port} for name, port in listens.items()]
    if not proxy:
        share = {cluster.kubernetes.resource: str(len(container.devices))}
        result["resources"] = {"limits": share, "requests": share}
    if not container.command:
        result |= _probes(cluster, listens.get("api") if proxy else None)
    if "api" in listens:
        sleep = ["sleep", str(FACTS["pre_stop"])]
        result["lifecycle"] = {"preStop": {"exec": {"command": sleep}}}
    capabilities = {"drop": ["ALL"], **({} if proxy else {"add": FACTS["capabilities"]})}
    result["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": capabilities}
    if mounts:
        result["volumeMounts"] = mounts
    return result


def _probes(cluster: Cluster, port: int | None) -> dict[str, Any]:
    """Probes with the image's health command.

    `port`: of a proxy, which is alive while this port is open: missing servers do not restart it.
    """
    seconds, health = FACTS["probes"], {"exec": {"command": FACTS["health"]}}
    alive = {"tcpSocket": {"port": port}} if port else health
    waits = cluster.run.wait_timeout
    waits = WAIT_TIMEOUT if waits is None else waits

    def probe(how: dict[str, Any], after: int) -> dict[str, Any]:
        period = seconds["period"]
        return {
            **how,
            "periodSeconds": period,
            "timeoutSeconds": seconds["timeout"],
            "failureThreshold": -(-after // period),
        }

    return {
        "startupProbe": probe(health, waits + seconds["startup"]),
        "readinessProbe": probe(health, seconds["readiness"]),
        "livenessProbe": probe(alive, seconds["liveness"]),
    }


def _scheduling(cluster: Cluster, nodes: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if cluster.kubernetes.node_selector:
        result["nodeSelector"] = dict(cluster.kubernetes.node_selector)
    if nodes:
        here = {"key": _HOST_NAME, "operator": "In", "values": nodes}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
        rule = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        result["affinity"] = {"nodeAffinity": rule}
    return result


def _volumes(cluster: Cluster, container: Container) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(mount, volume) of shared memory, of the driver files, and of the cluster file's volumes."""
    shared = {"medium": "Memory", "sizeLimit": f"{cluster.run.shm_gib}Gi"}
    result = [_volume("shm", "/dev/shm", False, {"emptyDir": shared})]
    taken = {volume.mount for volume in cluster.volumes}
    driver = docker.host(data.read(data.path_of("preflight.yaml")), (), multi_node(container))
    files = [path for path in driver.mounts if path not in FACTS["runtime_mounts"]]
    for number, path in enumerate(files):
        if path not in taken:
            host = {"hostPath": {"path": path, "type": "File"}}
            result.append(_volume(f"driver-{number}", path, True, host))
    for number, volume in enumerate(cluster.volumes):
        name = f"volume-{number}"
        result.append(_volume(name, volume.mount, volume.read_only, _source(volume)))
    return result


def _source(volume: Volume) -> dict[str, Any]:
    if volume.claim:
        claim = {"claimName": volume.claim, "readOnly": volume.read_only}
        return {"persistentVolumeClaim": claim}
    return {"hostPath": {"path": volume.path, "type": "Directory"}}


def _volume(
    name: str, path: str, read_only: bool, source: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    mount = {"name": name, "mountPath": path}
    return ({**mount, "readOnly": True} if read_only else mount), {"name": name, **source}
