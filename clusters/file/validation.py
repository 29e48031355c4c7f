"""Rules beyond the schema: names that must exist, and keys that exclude or require each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from clusters import ranges
from clusters.file.document import Document
from clusters.file.recipe import check_settings
from clusters.file.schema import schema
from clusters.model import Path
from common.errors import ERROR, WARNING, Finding, did_you_mean
from entrypoints.inputs import data, releases
from entrypoints.inputs.settings import NAMES

# Nodes of one instance that Kubernetes places; more is a typing mistake.
MAX_NODES = 10_000
# Variables of the entrypoint without a key in the file.
_SETTABLE = frozenset({"JEMALLOC", "RAY_ARGS"})
_DASHED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(-[A-Za-z0-9_]+)+")


def validate(document: Document, raw: Mapping[str, Any], groups: Iterable[str]) -> list[Finding]:
    """All findings. `raw`: the document's valid part. `groups`: the roles of the recipe."""
    validator = _Validator(document, raw, groups)
    validator.top()
    validator.nodes()
    for name, instance in raw.get("instances", {}).items():
        validator.instance(name, instance)
    validator.proxy()
    validator.images()
    validator.volumes()
    validator.secrets()
    validator.unused()
    return validator.findings


class _Validator:
    """Names are looked up in the whole document: something invalid is still there."""

    def __init__(self, document: Document, raw: Mapping[str, Any], groups: Iterable[str]) -> None:
        self.document = document
        self.raw = raw
        self.names = self.at("nodes").keys()
        self.placed = "nodes" not in document.value
        self.platforms: dict[str, int] = {
            name: data.read(data.path_of("platforms", f"{name}.yaml"))["devices"]
            for name in data.names("platforms")
        }
        self.groups = groups
        self.findings: list[Finding] = []

    def at(self, *path: str) -> dict[str, Any]:
        """The mapping at a path of the whole document; empty without one."""
        value = self.document.value
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def wrong(self, path: Path, code: str, message: str, fix: str, severity: str = ERROR) -> None:
        self.findings.append(self.document.finding(path, code, message, fix, severity))

    def known(self, path: Path, name: str | None, known: Iterable[str], kind: str = "") -> None:
        """Check a name of a `kind`, by default the last part of its path."""
        if name is not None and name not in (names := list(known)):
            kind = kind or str(path[-1])
            what = "is not a node" if kind == "node" else "is unknown"
            self.wrong(path, f"unknown-{kind}", f"{name!r} {what}", did_you_mean(name, names))

    def settings(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.findings += check_settings(self.document, path, raw, self.groups)

    def top(self) -> None:
        release, known = self.raw.get("release"), data.names("releases")
        if release is not None and not releases.facts_of(release, known):
            fix = releases.meant(release, known)
            self.wrong(("release",), "unknown-release", f"{release!r} is unknown", fix)
        self.known(("platform",), self.raw.get("platform"), self.platforms)
        if "os" in self.raw:
            from images.matrix import load

            self.known(("os",), self.raw["os"], load().oses)
        if not {"recipe", "model"} & self.document.value.keys():
            fix = "add recipe:, or model: and sizes:"
            self.wrong((), "missing-key", "has no recipe and no model", fix)
        self.settings((), self.raw)

    def nodes(self) -> None:
        seen: dict[str, str] = {}
        bare = []
        for name, raw in self.raw.get("nodes", {}).items():
            path = ("nodes", name)
            node = raw if isinstance(raw, dict) else {"address": raw}
            address = node.get("address")
            if address in seen:
                message = f"has the same address as {seen[address]}: {address}"
                at = (*path, "address") if isinstance(raw, dict) else path
                self.wrong(at, "same-address", message, "give each node its own")
            elif address:
                seen[address] = name
            self.known((*path, "platform"), node.get("platform"), self.platforms)
            if "platform" not in self.at(*path):
                bare.append(name)
            if count := self.device_count(node):
                self.devices(path, node, range(count), f"its platform has {count}")
        if "platform" not in self.document.value and (bare or self.placed):
            whose = f" for {', '.join(bare[:3])}{' …' if bare[3:] else ''}" if bare else ""
            fix = "add platform: at the top" + (", or to each node" if bare else "")
            self.wrong(("platform",), "missing-key", f"is missing{whose}", fix)

    def device_count(self, node: Mapping[str, Any]) -> int:
        """The number of devices of a node; 0 for an unknown platform."""
        return self.platforms.get(str(node.get("platform", self.raw.get("platform"))), 0)

    def devices(self, path: Path, raw: Mapping[str, Any], known: Iterable[int], why: str) -> None:
        """Check `devices` of a node or an instance against the known ones."""
        given = ranges.parse(raw.get("devices"))
        if given is None:
            return
        path = (*path, "devices")
        if not given:
            message = f"{raw['devices']!r} has a range that ends before it starts"
            self.wrong(path, "bad-devices", message, "write the smaller number first")
        elif len(set(given)) < len(given):
            self.wrong(path, "bad-devices", "names a device twice", "name each one once")
        elif beyond := sorted(set(given) - set(known)):
            message = f"there is no device {', '.join(map(str, beyond))}: {why}"
            self.wrong(path, "no-device", message, "give existing devices")

    def instance(self, name: str, raw: Mapping[str, Any]) -> None:
        path = ("instances", name)
        roles = schema()["$defs"]["instance"]["properties"]["role"]["enum"]
        if "role" not in self.at(*path) and name not in roles:
            message = f"is missing, and {name!r} is not a role"
            self.wrong((*path, "role"), "missing-key", message, f"give one of {', '.join(roles)}")
        self.settings(path, raw)
        names: list[str] = []
        if isinstance(raw.get("nodes"), list):
            names = raw["nodes"]
            self.node_names((*path, "nodes"), names, raw.get("replicas", 1))
        elif "nodes" in raw:
            self.count((*path, "nodes"), raw["nodes"], raw.get("replicas", 1))
        self.instance_devices(path, raw, names)
        for node, override in raw.get("overrides", {}).items():
            at = (*path, "overrides", node)
            if names and node not in names:
                message = f"{node!r} is not a node of this instance"
                self.wrong(at, "unknown-node", message, did_you_mean(node, names))
            self.variables((*at, "env"), override.get("env", {}))

    def node_names(self, path: Path, names: list[str], replicas: int) -> None:
        if self.placed:
            message = "are named, but the file has no nodes:"
            fix = "add nodes:, or give the number of nodes of one replica"
            self.wrong(path, "mixed-nodes", message, fix)
            return
        for index, name in enumerate(names):
            self.known((*path, index), name, self.names, "node")
        if len(names) % replicas:
            message = f"{len(names)} nodes cannot be divided into {replicas} replicas"
            self.wrong(path, "uneven-nodes", message, "give each replica the same number of nodes")

    def count(self, path: Path, each: int, replicas: int) -> None:
        if not self.placed:
            message = "is a number, but nodes: names the nodes"
            self.wrong(path, "mixed-nodes", message, "list the names of this instance's nodes")
        elif each * replicas > MAX_NODES:
            message = f"makes {each * replicas} nodes"
            self.wrong(
                path, "too-many-nodes", message, f"give at most {MAX_NODES} for all replicas"
            )

    def instance_devices(self, path: Path, raw: Mapping[str, Any], names: Iterable[str]) -> None:
        nodes = self.raw.get("nodes", {})
        for name in dict.fromkeys(names) or [""]:
            node = nodes.get(name)
            node = node if isinstance(node, dict) else {}
            count = self.device_count(node)
            own = ranges.parse(node.get("devices"))
            why = f"{name or 'its platform'} has {count if own is None else len(own)}"
            before = len(self.findings)
            if count:
                self.devices(path, raw, range(count) if own is None else own, why)
            if len(self.findings) > before:
                return  # one finding, not one for every node

    def variables(self, path: Path, env: Mapping[str, Any]) -> None:
        """Check variables of one container, which the recipe does not validate."""
        dashed = {name for name in env if _DASHED.fullmatch(name)}
        for name in env:
            if name in NAMES - _SETTABLE:
                message = "is a variable of the entrypoint, which this file sets"
                self.wrong((*path, name), "own-variable", message, "use the keys of the file")
            elif name in dashed:
                message = "has a dash, which few programs can read"
                fix = f"write {name.replace('-', '_')}"
                self.wrong((*path, name), "dashed-variable", message, fix, WARNING)
        others = {name: env[name] for name in env if name not in NAMES | dashed}
        self.findings += check_settings(self.document, path[:-1], {"env": others}, ())

    def proxy(self) -> None:
        raw = self.raw.get("proxy")
        if raw is None:
            return
        path = ("proxy",)
        node = raw.get("node")
        if self.placed and node:
            message = "is named, but the file has no nodes:"
            self.wrong((*path, "node"), "mixed-nodes", message, "add nodes:, or remove it")
        elif node:
            self.known((*path, "node"), node, self.names)
        elif not self.placed and "node" not in self.at(*path):
            self.wrong((*path, "node"), "missing-key", "is missing", "add node: with a node's name")
        if not self.placed and raw.get("replicas", 1) > 1:
            message = "is for Kubernetes, where the file has no nodes:"
            self.wrong((*path, "replicas"), "bad-value", message, "remove it")
        other = self.raw.get("ports", {}).get("proxy")
        if other and raw.get("port", other) != other:
            message = f"is {raw['port']}, but ports.proxy is {other}"
            self.wrong((*path, "port"), "two-ports", message, "keep one of them")
        self.variables((*path, "env"), raw.get("env", {}))

    def images(self) -> None:
        by_platform = self.raw.get("image")
        if not isinstance(by_platform, dict):
            return
        for name in by_platform:
            self.known(("image", name), name, self.platforms, "platform")
        nodes = self.raw.get("nodes", {}).values()
        own = [node["platform"] for node in nodes if isinstance(node, dict) and "platform" in node]
        used = dict.fromkeys([*own, *filter(None, [self.raw.get("platform")])])
        for name in used:
            if name in self.platforms and name not in self.at("image"):
                message = f"has no image for platform {name}"
                self.wrong(("image",), "missing-key", message, f"add {name}: with its image")

    def volumes(self) -> None:
        weights = self.raw.get("weights")
        several = isinstance(weights, list)
        seen = set()
        for index, raw in enumerate(weights if isinstance(weights, list) else [weights]):
            path: Path = ("weights", index) if several else ("weights",)
            one = raw if isinstance(raw, dict) else {"path": raw}
            mount = one.get("mount", one.get("path"))
            if mount and mount in seen:
                message = f"{mount} is mounted twice"
                self.wrong(path, "same-mount", message, "give each volume its own mount:")
            seen.add(mount)
            if "claim" in one:
                self.kubernetes_only((*path, "claim"))

    def secrets(self) -> None:
        for name, raw in self.raw.get("secrets", {}).items():
            path = ("secrets", name)
            if name in NAMES:
                message = "is a variable of the entrypoint, not a secret"
                self.wrong(path, "own-variable", message, "use the keys of the file")
            for at in ((), *(("instances", one) for one in self.at("instances")), ("proxy",)):
                if name in self.at(*at, "env"):
                    message = "is a secret, but is also given as text"
                    self.wrong((*at, "env", name), "open-secret", message, "remove one of them")
            if "secret" in raw:
                self.kubernetes_only((*path, "secret"))

    def kubernetes_only(self, path: Path) -> None:
        if not self.placed:
            message = "is for Kubernetes, where the file has no nodes:"
            self.wrong(path, "kubernetes-only", message, "give a path or a file on the nodes")

    def unused(self) -> None:
        """Warn of nodes on which nothing runs."""
        used: set[str] = set()
        for raw in self.at("instances").values():
            names = raw.get("nodes") if isinstance(raw, dict) else None
            if not isinstance(names, list):
                return
            used.update(name for name in names if isinstance(name, str))
        proxy = self.at("proxy").get("node")
        for name in self.names:
            if name not in used and name != proxy:
                fix = "name it in an instance, or remove it"
                self.wrong(("nodes", name), "unused-node", "nothing runs on it", fix, WARNING)
