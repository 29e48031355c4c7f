"""Manifests read back: their pods, and what Kubernetes and its controllers would make of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from clusters import compile
from clusters.compile.planning import UNKNOWN_NIC
from clusters.deployment import Container, Deployment
from clusters.file import read
from clusters.render.formats import RENDERERS
from entrypoints.launch.model import Launch
from entrypoints.launch.network import Host
from entrypoints.plan import plan
from tests import ROOT

GOLDEN = ROOT / "tests/clusters" / "golden"
EXAMPLES = ROOT / "clusters" / "examples"
SECRET = "the-key-itself"
# Of an entrypoint's launch: everything but the variables it was made of.
COMPARED = ("role", "title", "argv", "expands", "ports", "before", "peers", "leader", "npus")


@cache
def example(name: str) -> Deployment:
    """An example of a cluster file, compiled. Each compiles without an error."""
    made = compile.deployment(read.load(EXAMPLES / f"{name}.yaml"))
    assert not [one for one in made.findings if one.severity == "error"]
    return made


def compiled(text: str) -> Deployment:
    """A cluster file's text, compiled."""
    found = read.read_text("some.yaml", text)
    assert found.cluster, [str(one) for one in found.findings]
    return compile.deployment(found.cluster)


def rendered(deployment: Deployment, to: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(RENDERERS[to](deployment)[f"{to}.yaml"]))


def one(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every pod template in the manifests."""
    for manifest in manifests:
        yield from _templates(manifest)


def _templates(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "containers" in value.get("spec", {}):
            yield value
        for inner in value.values():
            yield from _templates(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _templates(inner)


def server(template: Mapping[str, Any]) -> dict[str, Any]:
    (container,) = template["spec"]["containers"]
    assert container["name"] in ("server", "proxy")
    return dict(container)


# ---- schemas -------------------------------------------------------------------------------------


def assert_core_kinds_valid(manifests: list[dict[str, Any]]) -> None:
    """Against the schemas of Kubernetes itself, and no key that these do not know."""
    found = [one for one in manifests if not _custom(one)]
    assert found
    for manifest in found:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def assert_custom_kinds_valid(manifests: list[dict[str, Any]]) -> None:
    """Likewise, against those in the directory that K8S_SCHEMAS names."""
    folder = os.environ.get("K8S_SCHEMAS")
    if not folder:
        pytest.skip("K8S_SCHEMAS does not name the directory with the schemas of custom resources")
    found = [one for one in manifests if _custom(one)]
    assert found
    for manifest in found:
        path = Path(folder) / f"{manifest['kind'].lower()}-v1.json"
        jsonschema.validate(manifest, _closed(json.loads(path.read_text())))


def _custom(manifest: Mapping[str, Any]) -> bool:
    return str(manifest["apiVersion"]) in ("leaderworkerset.x-k8s.io/v1", "ray.io/v1")


def _closed(schema: Any) -> Any:
    """Without room for unknown keys; an object that says nothing of its keys (metadata) is open."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


# ---- what a pod gets -----------------------------------------------------------------------------


def expanded(text: str, known: Mapping[str, str]) -> str:
    """As the kubelet replaces references: k8s.io/kubernetes/third_party/forked/golang/expansion."""
    made, at = "", 0
    while at < len(text):
        if text[at] == "$" and text[at + 1 : at + 2] == "$":
            made, at = made + "$", at + 2
        elif text[at] == "$" and text[at + 1 : at + 2] == "(" and ")" in text[at + 2 :]:
            name, at = text[at + 2 :].partition(")")[0], text.index(")", at + 2) + 1
            made += known.get(name, f"$({name})")
        else:
            made, at = made + text[at], at + 1
    return made


def environment(
    template: Mapping[str, Any], address: str, by_the_set: Mapping[str, str], group: int = 0
) -> dict[str, str]:
    """The variables of the pod's container, in the order in which Kubernetes makes them."""
    made = dict(by_the_set)
    for entry in server(template)["env"]:
        source = entry.get("valueFrom", {})
        if "value" in entry:
            made[entry["name"]] = expanded(entry["value"], made)
        elif "secretKeyRef" in source:
            made[entry["name"]] = SECRET
        else:
            paths = {
                "status.podIP": address,
                "metadata.labels['leaderworkerset.sigs.k8s.io/group-index']": str(group),
            }
            made[entry["name"]] = paths[source["fieldRef"]["fieldPath"]]
    return made


def planned(
    deployment: Deployment, container: Container, template: Mapping[str, Any], env: dict[str, str]
) -> Launch:
    """What the entrypoint makes of a pod's variables and arguments."""
    image = {"VLLM_ASCEND_RELEASE": deployment.cluster.release}
    if container.node.platform:
        image["ASCEND_PLATFORM"] = container.node.platform
    address = container.node.address or ""
    nic = container.node.nic or UNKNOWN_NIC
    words = [expanded(word, env) for word in server(template).get("args", ())]
    return plan({**image, **env}, words, Host(lambda: [(nic, address)], lambda _: address))


def assert_same(launch: Launch, container: Container) -> None:
    """The same as what the compiler asked the entrypoint about."""
    wanted = container.launch
    assert wanted
    for name in COMPARED:
        assert getattr(launch, name) == getattr(wanted, name), name
    for name in ("group", "layout", "nodes", "rank", "dp_rank", "devices", "visible"):
        assert getattr(launch.place, name, None) == getattr(wanted.place, name, None), name
    # A secret, and jemalloc where this machine has it.
    theirs = {name: value for name, value in launch.env.items() if name != "LD_PRELOAD"}
    assert {name: "***" if value == SECRET else value for name, value in theirs.items()} == dict(
        wanted.env
    )


# ---- what holds for every manifest ---------------------------------------------------------------


def assert_sound(deployment: Deployment, text: str, own: set[str]) -> None:
    """`own`: variables that the controller sets, so that no pod may."""
    manifests = list(yaml.safe_load_all(text))
    resource = deployment.cluster.kubernetes.resource
    assert "198.18." not in text
    assert "198.19." not in text
    addresses = {node.address for node in deployment.cluster.nodes.values() if node.address}
    assert not [address for address in addresses if address in text]
    for manifest in manifests:
        assert manifest["kind"] not in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    found = list(pods(manifests))
    assert found
    for template in found:
        spec, container = template["spec"], server(template)
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] in accounts
        names = [entry["name"] for entry in container["env"]]
        assert len(names) == len(set(names))
        assert not own & set(names)
        proxy = container["name"] == "proxy"
        assert ({"name": "ROLE", "value": "proxy"} in container["env"]) is proxy
        resources = container.get("resources", {"limits": {}, "requests": {}})
        assert resources["limits"] == resources["requests"]
        assert (resource in resources["limits"]) is not proxy
        security = container["securityContext"]
        assert "privileged" not in security
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounts == {volume["name"] for volume in spec.get("volumes", ())}


def assert_golden(text: str, path: Path) -> None:
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == (path.read_text() if path.exists() else ""), (
        f"if it is meant: UPDATE_GOLDEN=1 pytest {Path(__file__).parent.name}"
    )
