"""The file of a release's pins, images/releases/{release}.yaml: read, merged and written whole.

A line whose comment starts with `by hand` is a person's, and outlives every bump.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.yaml import document
from upstream.bump import claims
from upstream.model import Fact

ORDER = (
    "published",
    "python",
    "cann",
    "platforms",
    "vllm",
    "vllm_ascend",
    "torch",
    "torch_npu",
    "triton_ascend",
    "mooncake",
    "requirements",
    "compiled",
    "later",
    "os_packages",
)
OPTIONAL = ("compiled", "later")
NESTED = ("os_packages",)  # a mapping with a line for each of its keys
BY_HAND = "by hand"
HAND_LINE = re.compile(rf"^(?P<indent> *)(?P<key>[\w-]+):.*# (?P<note>{BY_HAND}.*)$")
HEADER = """\
# vllm-ascend {release}, written by `invoke bump {release}`: each pin, and where upstream states it.
# What is marked "{by_hand}" is a person's and stays; the rest is written anew.
"""


@dataclass(frozen=True)
class Line:
    """A pin. `note`: its comment; a dotted key has a line of its own below its parent."""

    key: str
    value: Any
    note: str = ""

    @property
    def by_hand(self) -> bool:
        return self.note.startswith(BY_HAND)


Entry = Mapping[str, Line]


def read(path: Path) -> dict[str, Line]:
    """Key -> line of a file; empty where there is none. Raises UserError (65)."""
    if not path.is_file():
        return {}
    plain = document(path)
    values = dict(_flat(plain if isinstance(plain, dict) else {}))
    notes: dict[str, str] = {}
    parent = ""
    for text in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^( *)([\w-]+):", text)
        if not match:
            continue
        key = f"{parent}.{match[2]}" if match[1] else match[2]
        parent = parent if match[1] else match[2]
        hand = HAND_LINE.match(text)
        if hand:
            notes[key] = hand["note"]
    return {key: Line(key, value, notes.get(key, "")) for key, value in values.items()}


def of(facts: Iterable[Fact]) -> dict[str, Line]:
    """The lines that facts make. `mooncake.version` and `mooncake.from` share one."""
    lines: dict[str, Line] = {}
    sources: dict[str, list[str]] = {}
    for fact in facts:
        parent, _, child = fact.key.partition(".")
        key, value = fact.key, fact.value
        if child and parent not in NESTED:
            key, value = parent, {**(lines[parent].value if parent in lines else {}), child: value}
        sources.setdefault(key, []).append(fact.source)
        lines[key] = Line(key, value, cited(claims.lines(sources[key])))
    return lines


def merged(fresh: Entry, kept: Entry) -> dict[str, Line]:
    """What is written: upstream's, and over it what a person has marked as their own."""
    return {**fresh, **{key: line for key, line in kept.items() if line.by_hand}}


def plain(entry: Entry) -> dict[str, Any]:
    """As the matrix reads it."""
    result: dict[str, Any] = {}
    for key, line in _ordered(entry):
        parent, _, child = key.partition(".")
        if child:
            result.setdefault(parent, {})[child] = line.value
        else:
            result[key] = line.value
    return result


def render(release: str, entry: Entry) -> str:
    parts = [HEADER.format(release=release, by_hand=BY_HAND)]
    parents: set[str] = set()
    for key, line in _ordered(entry):
        parent, _, child = key.partition(".")
        if child and parent not in parents:
            parents.add(parent)
            parts.append(f"{parent}:\n")
        comment = f"  # {line.note}" if line.note else ""
        name = f"  {child}" if child else key
        parts.append(f"{name}: {_written(line.value)}{comment}\n")
    return "".join(parts)


def cited(source: str) -> str:
    """`vllm-ascend v0.18.0: Dockerfile:18` as a comment, `v0.18.0:Dockerfile:18`."""
    return re.sub(r"\b(vllm-ascend )?((?:[\w-]+ )?v\d\S*): ", r"\2:", source)


def _flat(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if key in NESTED and isinstance(value, dict):
            yield from ((f"{key}.{child}", item) for child, item in value.items())
        else:
            yield str(key), value


def _ordered(entry: Entry) -> list[tuple[str, Line]]:
    def place(key: str) -> int:
        parent = key.partition(".")[0]
        return ORDER.index(parent) if parent in ORDER else len(ORDER)

    return sorted(entry.items(), key=lambda item: place(item[0]))


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_written(item)}' for key, item in value.items())}}}"
    text = str(value)
    return text if yaml.safe_load(f"[{text}]") == [value] else json.dumps(text)
