"""Reads a cluster file into a `Cluster`, or into findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from clusters.file import build, recipe, schema, validation
from clusters.file.document import parse
from clusters.model import Cluster, Path
from common.errors import ERROR, EX_DATAERR, Finding, UserError

# Paths whose scalars stay text as written, `0.90` for instance; None matches any name or number.
_VERBATIM: tuple[tuple[str | None, ...], ...] = (
    ("env", None),
    ("options", None),
    ("proxy", "env", None),
    ("proxy", "arguments", None),
    ("instances", None, "env", None),
    ("instances", None, "arguments", None),
    ("instances", None, "command", None),
    ("instances", None, "overrides", None, "env", None),
    ("instances", None, "overrides", None, "arguments", None),
)


@dataclass(frozen=True)
class Reading:
    """A cluster, or None when one of the findings is an error."""

    cluster: Cluster | None
    findings: tuple[Finding, ...]


def load(path: str | FilePath, say: Callable[[str], None] | None = None) -> Cluster:
    """The cluster in a file; warnings go to `say`. Raises UserError (65) with all findings."""
    found = read(path)
    if found.cluster is None:
        raise UserError(found.findings, EX_DATAERR)
    if say:
        for finding in found.findings:
            say(str(finding))
    return found.cluster


def read(path: str | FilePath) -> Reading:
    """Read a file; findings are sorted by line."""
    try:
        text = FilePath(path).read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        message = f"cannot be read: {recipe.reason(error)}"
        fix = "give a readable YAML file in UTF-8"
        found = Finding("the file", message, fix, "unreadable-file", file=str(path), line=1)
        return Reading(None, (found,))
    return read_text(str(path), text)


def read_text(file: str, text: str) -> Reading:
    """As `read`, for a text that is in `file`."""
    document = parse(file, text, _as_written)
    findings = list(document.findings)
    if document.value is None and findings:
        return Reading(None, document.findings)
    refused = schema.check(document)
    reported = {finding.where for finding in findings}  # a value that cannot be read
    findings += [one for one in refused.values() if one.where not in reported]
    if not isinstance(document.value, dict):
        return Reading(None, tuple(findings))
    raw = _drop_refused(document.value, refused.keys())
    loaded = recipe.load(document, raw.get("recipe"))
    findings += [*loaded.findings, *validation.validate(document, raw, loaded.groups)]
    wrong = any(one.severity == ERROR for one in findings)
    cluster = None if wrong else build.cluster(document, loaded.recipe)
    return Reading(cluster, tuple(sorted(set(findings))))


def _as_written(path: Path) -> bool:
    if path[:1] == ("recipe",):
        return recipe.text_as_written(path[1:])
    return any(
        len(path) == len(one) and all(b in (None, a) for a, b in zip(path, one, strict=True))
        for one in _VERBATIM
    )


def _drop_refused(value: Any, refused: Iterable[Path], at: Path = ()) -> Any:
    """The value without refused parts; a list with a refused item is dropped as a whole."""
    if not refused:
        return value
    if isinstance(value, dict):
        return {
            key: _drop_refused(item, refused, (*at, key))
            for key, item in value.items()
            if (*at, key) not in refused
            and not (
                isinstance(item, list) and any((*at, key, i) in refused for i in range(len(item)))
            )
        }
    if isinstance(value, list):
        return [_drop_refused(item, refused, (*at, index)) for index, item in enumerate(value)]
    return value
