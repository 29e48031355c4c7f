"""Finds the place in the cluster file that a finding of an entrypoint is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath

from clusters.compile.ports import VARIABLES as PORTS
from clusters.deployment import Container
from clusters.model import Cluster, Override, Path
from common.errors import Finding
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.inputs import data
from entrypoints.inputs.arguments import Flag, canonical, is_flag, key_of
from entrypoints.inputs.settings import VARIABLES

_WORD = re.compile(r"--[a-z][a-z0-9.-]*|[A-Z][A-Z0-9_]{2,}")
# A variable -> the flag that wins over it.
_FLAGS = {v.name: v.flag for v in VARIABLES if v.flag}
_TABLES = data.read(str(FilePath(__file__).with_name("locate.yaml")))
# What a finding is about, when its message names something else or nothing.
_SUBJECTS: Mapping[str, Sequence[str]] = _TABLES["subjects"]
# Variable or flag -> the key of the file that sets it.
_KEYS: dict[str, Path] = {name: tuple(key.split(".")) for name, key in _TABLES["keys"].items()}
_KEYS |= {variable: ("ports", name) for name, variable in PORTS.items()}
_KEYS |= {flag: _KEYS[name] for name, flag in _FLAGS.items() if name in _KEYS}


def in_file(cluster: Cluster, container: Container | None, finding: LaunchFinding) -> Finding:
    """The finding of an entrypoint as one in the cluster file."""
    subjects = _SUBJECTS.get(finding.code, ())
    path = path_of(cluster, container, finding.where, subjects, _WORD.findall(finding.message))
    name = finding.where.rpartition(": ")[2]
    return at_path(cluster, path, finding, name)


def at_path(cluster: Cluster, path: Path, finding: LaunchFinding, name: str = "") -> Finding:
    """A finding of the run side at a path of the cluster file.

    `name`: of the variable or flag that it is about, unless the path says it.
    """
    key = ".".join(map(str, path)) or "the file"
    return Finding(
        file=cluster.file,
        line=cluster.line(path),
        severity=finding.severity,
        code=finding.code,
        where=key if not name or name.removeprefix("--") in key else f"{key}: {name}",
        message=finding.message,
        fix=finding.fix,
        source=finding.source,
    )


def path_of(
    cluster: Cluster,
    container: Container | None,
    where: str,
    first: Sequence[str] = (),
    further: Sequence[str] = (),
) -> Path:
    """The path in the file that sets a key, a variable or a flag of a container.

    `first` and `further`: other names to look for, before and after `where`. The path of the
    container's instance when nothing in the file sets it; `recipe` without a container.
    """
    if container is None:
        return ("recipe",)
    paths = _candidates(cluster, container, where, first, further)
    return next((path for path in paths if path in cluster.lines), owner(container))


def owner(container: Container) -> Path:
    """The path of the container's instance, or of the proxy."""
    return ("proxy",) if container.role == "proxy" else ("instances", container.instance)


def _candidates(
    cluster: Cluster,
    container: Container,
    where: str,
    first: Sequence[str],
    further: Sequence[str],
) -> Iterator[Path]:
    """The paths that may set it, the likeliest first."""
    key = where.rpartition(": ")[2] if ": " in where else ""
    scopes: tuple[Path, ...] = (owner(container), ())
    if key and not key.startswith("--"):
        parts = tuple(part for part in key.split(".") if part)
        if parts[:1] == ("roles",):
            parts = parts[2:]
        for scope in scopes:
            for end in range(len(parts), 0, -1):
                yield (*scope, *parts[:end])
        words = [*first, *further]
    else:
        words = [*first, key or where, *further]
    for word in words:
        if word.startswith("--"):
            yield from _flag_paths(cluster, container, word, scopes)
        else:
            if word in _FLAGS:
                yield from _flag_paths(cluster, container, _FLAGS[word], scopes)
            if container.origins and word in container.origins:
                yield container.origins[word]
            if word == "ASCEND_PLATFORM":
                yield ("nodes", container.node.name, "platform")
            for scope in scopes:
                yield (*scope, "env", word)
        if word in _KEYS:
            yield from ((*scope, *_KEYS[word]) for scope in scopes)
    if any(_KEYS.get(word, ("",))[0] == "sizes" for word in words):
        yield from ((*scope, "sizes") for scope in scopes)
    if key:
        yield ("recipe",)


def _flag_paths(
    cluster: Cluster, container: Container, word: str, scopes: tuple[Path, ...]
) -> Iterator[Path]:
    """The paths of a flag: `arguments`, which take precedence, before `args`."""
    given: dict[Path, Sequence[str]] = {}
    if container.role == "proxy" and cluster.proxy:
        given = {("proxy", "arguments"): cluster.proxy.arguments}
    elif instance := cluster.instances.get(container.instance):
        at: Path = ("instances", instance.name)
        override = instance.overrides.get(container.node.name, Override())
        given = {
            (*at, "overrides", container.node.name, "arguments"): override.arguments,
            (*at, "arguments"): instance.arguments,
        }
    aliases = container.launch.context.catalogue.aliases if container.launch else {}
    for path, tokens in given.items():
        for index in reversed(range(len(tokens))):
            if _names(tokens[index], word, aliases):
                yield (*path, index)
                yield path
    name = word.removeprefix("--")
    spellings = (name, name.replace("-", "_"), f"no-{name}", name.removeprefix("no-"))
    for scope in scopes:
        for one in spellings:
            yield (*scope, "args", one)


def _names(token: str, word: str, aliases: Mapping[str, str]) -> bool:
    if not is_flag(token):
        return False
    name = canonical(token.partition("=")[0], aliases)
    return word.partition(".")[0] in (key_of(Flag(name)), name.partition(".")[0])
