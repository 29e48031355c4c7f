"""Where in the cluster file something is said that an entrypoint finds wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clusters.deployment import Container
from clusters.findings import Finding
from clusters.model import Cluster, Path
from entrypoints.inputs.arguments import key_of
from entrypoints.inputs.arguments import parse as parse_flags
from entrypoints.problems import Problem

_WORD = re.compile(r"--[a-z][a-z0-9.-]*|[A-Z][A-Z0-9_]{2,}")


def finding(
    cluster: Cluster, container: Container | None, problem: Problem, severity: str
) -> Finding:
    """The problem of one container as a finding in the cluster file."""
    path = next((p for p in _paths(container, problem) if p in cluster.lines), None)
    if path is None:
        path = ("instances", container.instance) if container else ("recipe",)
        if container and container.role == "proxy":
            path = ("proxy",)
    about = ".".join(map(str, path))
    said = problem.where.rpartition(": ")[2]
    where = about if not said or said.removeprefix("--") in about else f"{about}: {said}"
    return Finding(
        file=cluster.file,
        line=cluster.line(path),
        severity=severity,
        code=problem.code,
        where=where,
        message=problem.message,
        fix=problem.fix,
        source=problem.source,
    )


def _paths(container: Container | None, problem: Problem) -> Iterator[Path]:
    """Where it may be said, the likeliest first."""
    key = problem.where.rpartition(": ")[2] if ": " in problem.where else ""
    if container is None:
        yield ("recipe",)
        return
    scopes: tuple[Path, ...] = (("instances", container.instance), ())
    if container.role == "proxy":
        scopes = (("proxy",), ())
    words = [key or problem.where]
    words += _WORD.findall(problem.message)
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
            yield from _flag(container, word, scopes)
        else:
            if container.origins and word in container.origins:
                yield container.origins[word]
            for scope in scopes:
                yield (*scope, "env", word)
    if key:
        yield ("recipe",)


def _flag(container: Container, word: str, scopes: tuple[Path, ...]) -> Iterator[Path]:
    name = word.removeprefix("--")
    spelt = (name, name.replace("-", "_"), f"no-{name}", name.removeprefix("no-"))
    for scope in scopes:
        for one in spelt:
            yield (*scope, "args", one)
    if any(key_of(flag) == word for flag in parse_flags(container.arguments, {}, [])):
        override = ("instances", container.instance, "overrides", container.node.name, "arguments")
        yield override
        for scope in scopes:
            yield (*scope, "arguments")
