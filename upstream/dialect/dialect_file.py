"""Write a file of env/releases; equal facts give equal bytes."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from upstream.dialect.upstream_names import upstream_names
from upstream.facts import Decision, Derived

WIDTH = 100  # columns
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Groups whose members have their own sources.
GROUPS = ("features", "connectors")


def document(derived: Derived) -> dict[str, Any]:
    """Nest the facts; each group has the source of its first one.

    Open decisions have the value taken so far. A removed name without a replacement is left out,
    since its entry must state one.
    """
    nested: dict[str, Any] = {str(entry["key"]): {} for entry in upstream_names()["document"]}
    for fact in derived.facts:
        *path, leaf = fact.key.split(".")
        group = nested
        for part in path:
            group = group.setdefault(part, {})
        if leaf != "gone":
            group[leaf] = fact.value
        if path and path[-1] not in GROUPS:
            group.setdefault("source", fact.source)
    for decision in derived.decisions:
        _take(nested, decision)
    for key in ("connectors_gone", "flags_gone", "variables_gone"):
        field = "fix" if key == "variables_gone" else "instead"
        nested[key] = {name: entry for name, entry in nested[key].items() if field in entry}
    return {key: _source_last(value) for key, value in nested.items()}


def _take(nested: dict[str, Any], decision: Decision) -> None:
    """Insert the value taken for a decision, unless there is a fact."""
    *path, leaf = decision.key.split(".")
    group = nested
    for part in path:
        group = group.setdefault(part, {})
    if decision.taken is not None and group.get(leaf) in (None, {}):
        group[leaf] = decision.taken


def _source_last(value: Any) -> Any:
    """Move `source` to the end of each mapping."""
    if not isinstance(value, dict):
        return value
    rest = {key: _source_last(one) for key, one in value.items() if key != "source"}
    return {**rest, "source": value["source"]} if "source" in value else rest


def render(document: Mapping[str, Any], head: str = "") -> str:
    """The text of the file; `head`: a comment above it. Unknown keys come last."""
    out = [f"# {line}" for line in textwrap.wrap(head, WIDTH - 2)]
    entries = {str(entry["key"]): entry for entry in upstream_names()["document"]}
    for key in (*entries, *(key for key in document if key not in entries)):
        if key not in document:
            continue
        entry = entries.get(key, {})
        out += [""] if entry.get("apart") else []
        out += [f"# {line}" for line in textwrap.wrap(entry.get("comment", ""), WIDTH - 2)]
        out += _block(key, document[key], 0)
    return "\n".join(out) + "\n"


def _block(key: str, value: Any, indent: int) -> Iterator[str]:
    """`key: value` on one line if it fits; a mapping of mappings never does."""
    start = " " * indent + f"{_scalar(key)}:"
    line = f"{start} {_flow(value)}"
    nested = isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values())
    if len(line) <= WIDTH and not (nested and indent == 0):
        yield line
    elif isinstance(value, Mapping):
        yield start
        for name, one in value.items():
            yield from _block(str(name), one, indent + 2)
    elif isinstance(value, list):
        yield start
        yield from _wrapped([_flow(one) for one in value], indent + 2)
    else:
        yield line  # texts are not wrapped


def _wrapped(words: Iterable[str], indent: int) -> list[str]:
    text = "[" + ", ".join(words) + "]"
    first, later = " " * indent, " " * (indent + 1)
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = PLAIN.fullmatch(value) and yaml.safe_load(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
