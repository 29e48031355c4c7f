"""Names and labels of manifests, the manifests that need nothing else, and their text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from clusters.model import Cluster
from entrypoints.inputs import data

Manifest = dict[str, Any]
FACTS: dict[str, Any] = data.read(str(Path(__file__).with_name("facts.yaml")))
NAME, VERSION = "app.kubernetes.io/name", "app.kubernetes.io/version"
# Strings that are strings in YAML 1.1 and 1.2 alike. PyYAML quotes words such as `on` itself.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._:-]+")


def of(cluster: Cluster, component: str) -> dict[str, str]:
    """The labels of one instance, or of the proxy."""
    return {
        NAME: "vllm-ascend",
        "app.kubernetes.io/instance": cluster.name,
        "app.kubernetes.io/component": component,
        VERSION: cluster.release,
    }


def metadata(cluster: Cluster, name: str, component: str) -> Manifest:
    space = cluster.kubernetes.namespace
    place = {"namespace": space} if space else {}
    return {"name": name, **place, "labels": of(cluster, component)}


def manifest(version: str, kind: str, metadata: Manifest, **parts: Any) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}


def account(cluster: Cluster) -> Manifest:
    """The pods' service account, without token and role."""
    about = metadata(cluster, cluster.name, "account")
    return manifest("v1", "ServiceAccount", about, automountServiceAccountToken=False)


def service(
    cluster: Cluster, name: str, component: str, pods: Mapping[str, str], ports: Mapping[str, int]
) -> Manifest:
    """A Service for the pods with these labels."""
    numbers = [
        {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
        for name, port in ports.items()
    ]
    spec = {"selector": dict(pods), "ports": numbers}
    return manifest("v1", "Service", metadata(cluster, name, component), spec=spec)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None if _PLAIN.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _text)


def to_yaml(manifests: Iterable[Manifest], comment: str) -> str:
    """The manifests as documents of one text after a comment; ambiguous strings are quoted."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + yaml.dump_all(
        manifests,
        Dumper=_Dumper,
        explicit_start=True,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
