"""Builds the records of a cluster file without errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusters import ranges
from clusters.file.document import Document
from clusters.file.recipe import SETTINGS
from clusters.model import (
    Cluster,
    Instance,
    Kubernetes,
    Node,
    Override,
    Proxy,
    Run,
    Secret,
    Volume,
)
from entrypoints.inputs import stack
from images.names import REPOSITORY

OS = "ubuntu22.04"


def cluster(document: Document, recipe: str | Mapping[str, Any] | None) -> Cluster:
    """The cluster that a document describes; `recipe`: what its `recipe:` names or contains."""
    raw: Mapping[str, Any] = document.value
    instances = {name: _instance(name, one) for name, one in raw["instances"].items()}
    return Cluster(
        file=document.file,
        name=raw["name"],
        release=_release(raw.get("release")),
        image=raw.get("image", REPOSITORY),
        os=raw.get("os", OS),
        recipe=recipe,
        model=raw.get("model", ""),
        served_model_name=raw.get("served_model_name", ""),
        nodes=_named(raw) if "nodes" in raw else _placed(raw, instances),
        instances=instances,
        proxy=_proxy(raw["proxy"]) if "proxy" in raw else None,
        settings=_settings(raw),
        ports=raw.get("ports", {}),
        volumes=_volumes(raw.get("weights", [])),
        secrets=tuple(Secret(name, **one) for name, one in raw.get("secrets", {}).items()),
        run=_run(raw.get("run", {})),
        kubernetes=_kubernetes(raw.get("kubernetes", {})),
        options=_words(raw, "options"),
        lines=document.lines,
    )


def _named(raw: Mapping[str, Any]) -> dict[str, Node]:
    found = {}
    for name, one in raw["nodes"].items():
        node = one if isinstance(one, dict) else {"address": one}
        found[name] = Node(
            name=name,
            address=node["address"],
            nic=node.get("nic", raw.get("nic")),
            platform=node.get("platform") or raw["platform"],
            devices=ranges.parse(node.get("devices")),
            context=node.get("context", ""),
        )
    return found


def _release(name: str | None) -> str:
    """The file's release, or the default; v0.23.0.post1 for v0.23.0 if only that is known."""
    release = stack.release(name, [])
    assert release is not None, "the file is refused where its release is not known"
    return release.name


def _placed(raw: Mapping[str, Any], instances: Mapping[str, Instance]) -> dict[str, Node]:
    names = [name for instance in instances.values() for name in instance.nodes]
    return {name: Node(name, None, raw.get("nic"), raw["platform"], placed=True) for name in names}


def _instance(name: str, raw: Mapping[str, Any]) -> Instance:
    replicas = int(raw.get("replicas", 1))
    if isinstance(raw["nodes"], list):
        nodes = tuple(raw["nodes"])
        each = len(nodes) // replicas
    else:
        each = int(raw["nodes"])
        nodes = tuple(f"{name}-{r}-{i}" for r in range(replicas) for i in range(each))
    return Instance(
        name=name,
        role=raw.get("role", name),
        nodes=nodes,
        each=each,
        replicas=replicas,
        devices=ranges.parse(raw.get("devices")),
        external=raw.get("external", False),
        settings=_settings(raw),
        ports=raw.get("ports", {}),
        arguments=_words(raw, "arguments"),
        command=_words(raw, "command"),
        overrides={
            node: Override(one.get("env", {}), _words(one, "arguments"))
            for node, one in raw.get("overrides", {}).items()
        },
    )


def _proxy(raw: Mapping[str, Any]) -> Proxy:
    return Proxy(**{"node": "", **raw, "arguments": _words(raw, "arguments")})


def _settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: raw[key] for key in SETTINGS if key in raw}


def _words(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(raw.get(key, ()))


def _volumes(raw: Any) -> tuple[Volume, ...]:
    found = []
    for one in raw if isinstance(raw, list) else [raw]:
        volume = one if isinstance(one, dict) else {"path": one}
        found.append(Volume(**{"mount": volume.get("path"), **volume}))
    return tuple(found)


def _run(raw: Mapping[str, Any]) -> Run:
    shm = {"shm_gib": int(raw["shm"].rstrip("gGi"))} if "shm" in raw else {}
    return Run(**{key: value for key, value in {**raw, **shm}.items() if key != "shm"})


def _kubernetes(raw: Mapping[str, Any]) -> Kubernetes:
    return Kubernetes(**{**raw, "pull_secrets": _words(raw, "pull_secrets")})
