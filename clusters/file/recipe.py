"""The recipe of a cluster and the settings merged over it, both validated by the entrypoint.

Its findings get the line of their key in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from clusters.file.document import Document, dotted, parse
from clusters.model import Path, nearest_line
from common.errors import Finding
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.findings import Refused
from entrypoints.inputs import recipes

SETTINGS = ("sizes", "concurrency", "features", "env", "args", "kv_transfer")


@dataclass(frozen=True)
class LoadedRecipe:
    """The recipe of a cluster: a name, its content, or None. `groups`: its roles."""

    recipe: str | Mapping[str, Any] | None
    groups: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def text_as_written(path: Path) -> bool:
    """Whether a path in a recipe is a value under `env:`, which stays text as written."""
    return path[-2:-1] == ("env",) and (len(path) == 2 or (len(path) == 4 and path[0] == "roles"))


def load(document: Document, raw: Any) -> LoadedRecipe:
    """Load the recipe that `recipe:` names or contains."""
    at: Path = ("recipe",)
    if raw is None:
        return LoadedRecipe(None, ())
    if isinstance(raw, dict):
        return _from_mapping(document, at, raw)
    if raw.endswith((".yaml", ".yml")):
        return _from_file(document, raw)
    if raw not in recipes.names():
        unknown = recipes.unknown(raw, "recipe")
        finding = document.finding(at, unknown.code, unknown.message, unknown.fix)
        return LoadedRecipe(None, (), (finding,))
    return LoadedRecipe(raw, tuple(recipes.load(raw).groups))


def check_settings(
    document: Document, at: Path, raw: Mapping[str, Any], groups: Iterable[str]
) -> Iterator[Finding]:
    """Findings about settings at a path of the file, for a recipe with these roles."""
    settings = {key: raw[key] for key in SETTINGS if key in raw}
    if settings:
        roles = dict.fromkeys(groups or ("single",))
        yield from _from_mapping(
            document, at, {"model": "model", "roles": roles, **settings}
        ).findings


def _from_file(document: Document, raw: str) -> LoadedRecipe:
    path = FilePath(document.file).parent / raw
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        message = f"{raw!r} cannot be read: {reason(error)}"
        fix = "give the path of a recipe, relative to this file"
        return LoadedRecipe(
            None, (), (document.finding(("recipe",), "unreadable-file", message, fix),)
        )
    inner = parse(str(path), text, text_as_written)
    findings = inner.findings
    if not findings and not isinstance(inner.value, dict):
        fix = "write a recipe: docs/run.md"
        findings = (inner.finding((), "wrong-type", "is not a mapping", fix),)
    return LoadedRecipe(None, (), findings) if findings else _from_mapping(inner, (), inner.value)


def reason(error: OSError | ValueError) -> str:
    """The reason why a file cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return getattr(error, "strerror", None) or str(error)


def _from_mapping(document: Document, at: Path, raw: Mapping[str, Any]) -> LoadedRecipe:
    try:
        loaded = recipes.load(json.dumps(raw))
    except Refused as refused:
        return LoadedRecipe(None, (), tuple(_findings(document, at, refused.findings)))
    return LoadedRecipe(raw, tuple(loaded.groups))


def _findings(document: Document, at: Path, findings: Iterable[LaunchFinding]) -> Iterator[Finding]:
    paths = {dotted(path[len(at) :]): path for path in document.lines if path[: len(at)] == at}
    for finding in findings:
        key = named = finding.where.removeprefix("RECIPE").removeprefix(": ")
        while key and key not in paths:
            key = key.rpartition(".")[0]
        path = paths[key] if key else at
        where = ".".join(filter(None, (dotted(at) if at else "", named))) or dotted(())
        yield Finding(
            where,
            finding.message,
            finding.fix,
            finding.code,
            finding.source,
            file=document.file,
            line=nearest_line(document.lines, path),
        )
