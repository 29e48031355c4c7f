"""Read, merge and write the pins of a release: images/releases/{release}.yaml.

A bump keeps every line whose comment starts with `by hand`.
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
from upstream.facts import Fact, join_citations

ORDER = (
    "published",
    "python",
    "cann",
    "cann_image",
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
    "vendor",
    "vllm_wheel_without",
    "os_packages",
)
OPTIONAL = ("cann_image", "compiled", "later", "vendor", "vllm_wheel_without")
NESTED = ("os_packages", "vendor")  # a mapping with a line for each of its keys
BY_HAND = "by hand"
HAND_LINE = re.compile(rf"^(?P<indent> *)(?P<key>[\w-]+):.*# (?P<note>{BY_HAND}.*)$")
HEADER = """\
# vllm-ascend {release}, written by `invoke bump {release}`: each pin, and where upstream states it.
# A bump keeps lines marked "{by_hand}" and rewrites all others.
"""


@dataclass(frozen=True)
class Pin:
    """A line of the file. `note`: its comment. A dotted key is a line below its parent."""

    key: str
    value: Any
    note: str = ""

    @property
    def by_hand(self) -> bool:
        return self.note.startswith(BY_HAND)


Pins = Mapping[str, Pin]


def read(path: Path) -> dict[str, Pin]:
    """Read a file: key → pin; empty if it does not exist. Raises UserError (65)."""
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
    return {key: Pin(key, value, notes.get(key, "")) for key, value in values.items()}


def from_facts(facts: Iterable[Fact]) -> dict[str, Pin]:
    """Convert facts to pins; facts such as `mooncake.version` and `mooncake.from` share one."""
    lines: dict[str, Pin] = {}
    sources: dict[str, list[str]] = {}
    for fact in facts:
        parent, _, child = fact.key.partition(".")
        key, value = fact.key, fact.value
        if child and parent not in NESTED:
            key, value = parent, {**(lines[parent].value if parent in lines else {}), child: value}
        sources.setdefault(key, []).append(fact.source)
        lines[key] = Pin(key, value, short_citation(join_citations(sources[key])))
    return lines


def merge(fresh: Pins, old: Pins) -> dict[str, Pin]:
    """Upstream's pins, overridden by those set by hand in the old file."""
    return {**fresh, **{key: line for key, line in old.items() if line.by_hand}}


def plain(entry: Pins) -> dict[str, Any]:
    """The pins as plain YAML data, as the matrix reads them."""
    result: dict[str, Any] = {}
    for key, line in _ordered(entry):
        parent, _, child = key.partition(".")
        if child:
            result.setdefault(parent, {})[child] = line.value
        else:
            result[key] = line.value
    return result


def render(release: str, entry: Pins) -> str:
    """The text of the file."""
    parts = [HEADER.format(release=release, by_hand=BY_HAND)]
    parents: set[str] = set()
    for key, line in _ordered(entry):
        parent, _, child = key.partition(".")
        if child and parent not in parents:
            parents.add(parent)
            parts.append(f"{parent}:\n")
        comment = f"  # {line.note}" if line.note else ""
        name = f"  {child}" if child else key
        parts.append(f"{name}: {_yaml_text(line.value)}{comment}\n")
    return "".join(parts)


def short_citation(source: str) -> str:
    """Shorten `vllm-ascend v0.18.0: Dockerfile:18` to `v0.18.0:Dockerfile:18`."""
    return re.sub(r"\b(vllm-ascend )?((?:[\w-]+ )?v\d\S*): ", r"\2:", source)


def _flat(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if key in NESTED and isinstance(value, dict):
            yield from ((f"{key}.{child}", item) for child, item in value.items())
        else:
            yield str(key), value


def _ordered(entry: Pins) -> list[tuple[str, Pin]]:
    def place(key: str) -> int:
        parent = key.partition(".")[0]
        return ORDER.index(parent) if parent in ORDER else len(ORDER)

    return sorted(entry.items(), key=lambda item: place(item[0]))


def _yaml_text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml_text(item)}' for key, item in value.items())}}}"
    text = str(value)
    return text if yaml.safe_load(f"[{text}]") == [value] else json.dumps(text)
