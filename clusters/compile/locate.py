"""Where in the cluster file something is said that an entrypoint finds wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from clusters.compile.ports import VARIABLES as PORTS
from clusters.deployment import Container
from clusters.findings import Finding
from clusters.model import Cluster, Path
from entrypoints.inputs.arguments import Flag, canonical, is_flag, key_of
from entrypoints.inputs.settings import VARIABLES
from entrypoints.problems import Problem

_WORD = re.compile(r"--[a-z][a-z0-9.-]*|[A-Z][A-Z0-9_]{2,}")
# A variable -> the flag that wins over it.
_FLAGS = {v.name: v.flag for v in VARIABLES if v.flag}
_VARIABLE_KEYS: Mapping[str, Path] = {
    "TP_SIZE": ("sizes", "tp"),
    "PP_SIZE": ("sizes", "pp"),
    "PCP_SIZE": ("sizes", "pcp"),
    "DP_SIZE": ("sizes", "dp"),
    "DP_SIZE_LOCAL": ("sizes", "dp_local"),
    "NODES": ("nodes",),
    "CONCURRENCY": ("concurrency",),
    **{variable: ("ports", name) for name, variable in PORTS.items()},
}
# What a warning is about, where its words do not say.
_ABOUT = {"other-platform": "ASCEND_PLATFORM", "fused-mc2-platform": "ASCEND_PLATFORM"}
# The key that says what a variable or a flag does.
_KEYS: Mapping[str, Path] = {
    **_VARIABLE_KEYS,
    **{_FLAGS[name]: key for name, key in _VARIABLE_KEYS.items() if name in _FLAGS},
    "--master-port": ("ports", "master"),
    "--prometheus-port": ("ports", "metrics"),
    "--kv-transfer-config": ("kv_transfer",),
    "ASCEND_PLATFORM": ("platform",),
    "--served-model-name": ("served_model_name",),
    "--model": ("model",),
}


def finding(
    cluster: Cluster, container: Container | None, problem: Problem, severity: str
) -> Finding:
    """The problem of one container as a finding in the cluster file."""
    where = problem.where or _ABOUT.get(problem.code, "")
    path = _place(cluster, container, where, problem.message)
    about = ".".join(map(str, path))
    word = problem.where.rpartition(": ")[2]
    return Finding(
        file=cluster.file,
        line=cluster.line(path),
        severity=severity,
        code=problem.code,
        where=about if not word or word.removeprefix("--") in about else f"{about}: {word}",
        message=problem.message,
        fix=problem.fix,
        source=problem.source,
    )


def said(cluster: Cluster, container: Container, word: str) -> Path:
    """Where a container's variable or flag is said; the container's own place where nowhere."""
    return _place(cluster, container, word, "")


def _place(cluster: Cluster, container: Container | None, where: str, message: str) -> Path:
    for path in _paths(cluster, container, where, message):
        if path in cluster.lines:
            return path
    return own(container) if container else ("recipe",)


def own(container: Container) -> Path:
    """The place of the container's instance, or of the proxy."""
    return ("proxy",) if container.role == "proxy" else ("instances", container.instance)


def _paths(
    cluster: Cluster, container: Container | None, where: str, message: str
) -> Iterator[Path]:
    """Where it may be said, the likeliest first."""
    key = where.rpartition(": ")[2] if ": " in where else ""
    if container is None:
        yield ("recipe",)
        return
    scopes: tuple[Path, ...] = (own(container), ())
    words = [key or where]
    words += _WORD.findall(message)
    if key and not key.startswith("--"):
        parts = tuple(part for part in key.split(".") if part)
        if parts[:1] == ("roles",):
            parts = parts[2:]
        for scope in scopes:
            for end in range(len(parts), 0, -1):
                yield (*scope, *parts[:end])
        words.pop(0)
    for word in words:
        if word.startswith("--"):
            yield from _flag(cluster, container, word, scopes)
        else:
            if word in _FLAGS:
                yield from _flag(cluster, container, _FLAGS[word], scopes)
            if container.origins and word in container.origins:
                yield container.origins[word]
            if word == "ASCEND_PLATFORM":
                yield ("nodes", container.node.name, "platform")
            for scope in scopes:
                yield (*scope, "env", word)
        yield from _key(word, scopes)
    if key:
        yield ("recipe",)


def _flag(
    cluster: Cluster, container: Container, word: str, scopes: tuple[Path, ...]
) -> Iterator[Path]:
    """Arguments stand after the recipe's `args`, and win."""
    instance = cluster.instances.get(container.instance)
    if container.role == "proxy" and cluster.proxy:
        given: dict[Path, Sequence[str]] = {("proxy", "arguments"): cluster.proxy.arguments}
    elif instance is None:
        given = {}
    else:
        at: Path = ("instances", instance.name)
        override = instance.overrides.get(container.node.name)
        given = {
            (*at, "overrides", container.node.name, "arguments"): override.arguments
            if override
            else (),
            (*at, "arguments"): instance.arguments,
        }
    aliases = container.launch.context.catalogue.aliases if container.launch else {}
    for path, tokens in given.items():
        for index in reversed(range(len(tokens))):
            if _names(tokens[index], word, aliases):
                yield (*path, index)
                yield path
    name = word.removeprefix("--")
    spelt = (name, name.replace("-", "_"), f"no-{name}", name.removeprefix("no-"))
    for scope in scopes:
        for one in spelt:
            yield (*scope, "args", one)


def _names(token: str, word: str, aliases: Mapping[str, str]) -> bool:
    if not is_flag(token):
        return False
    name = canonical(token.partition("=")[0], aliases)
    return word in (key_of(Flag(name)), name.partition(".")[0])


def _key(word: str, scopes: tuple[Path, ...]) -> Iterator[Path]:
    """The key that stands for a word; where sizes make it, they come next."""
    key = _KEYS.get(word.partition(".")[0] if word.startswith("--") else word)
    if key is None:
        return
    sized = key[0] in ("sizes", "kv_transfer")
    for path in (key, ("sizes",)) if sized else (key,):
        for scope in scopes:
            yield (*scope, *path)
