"""Names and labels of manifests, and the manifests that need nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusters.model import Cluster
from entrypoints.inputs import data

FACTS: dict[str, Any] = data.read(str(Path(__file__).with_name("facts.yaml")))


def of(cluster: Cluster, component: str) -> dict[str, str]:
    """The labels of one instance, or of the proxy."""
    return {
        "app.kubernetes.io/name": "vllm-ascend",
        "app.kubernetes.io/instance": cluster.name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/version": cluster.release,
    }


def metadata(cluster: Cluster, name: str, component: str) -> dict[str, Any]:
    space = cluster.kubernetes.namespace
    place = {"namespace": space} if space else {}
    return {"name": name, **place, "labels": of(cluster, component)}


def account(cluster: Cluster) -> dict[str, Any]:
    """The pods' service account, without token and role."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(cluster, cluster.name, "account"),
        "automountServiceAccountToken": False,
    }


def service(
    cluster: Cluster, name: str, component: str, pods: Mapping[str, str], ports: Mapping[str, int]
) -> dict[str, Any]:
    """A Service for the pods with these labels."""
    numbers = [
        {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
        for name, port in ports.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(cluster, name, component),
        "spec": {"selector": dict(pods), "ports": numbers},
    }
