"""images/releases and the platforms of images/matrix.yaml against a release's sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from upstream.audit.statement import Statement, confirmed, contradicted, unchecked
from upstream.bump import entry as entries
from upstream.bump import pins
from upstream.model import Derived, Fact
from upstream.sources import Sources

MATRIX = "images/matrix.yaml"
NOTE = re.compile(r"^( *)([\w-]+):.*?  # (.*)$")
INDEX = ("published", "later")  # whose days are the package index's to say


def statements(file: str, path: Path, derived: Derived) -> Iterator[Statement]:
    """One for each pin of a release, and for each source beside one."""
    stated, said = entries.read(path), entries.of(derived.facts)
    noted = notes(path.read_text(encoding="utf-8"))
    asked = {one.key: one.question for one in derived.decisions}
    for key, line in stated.items():
        fresh = said.get(key)
        source = _source(key, derived.facts)
        if line.by_hand:
            beside = f"; upstream's is {fresh.value!r}" if fresh else ""
            yield unchecked(file, key, line.value, f"{line.note}{beside}", source)
        elif fresh is None:
            why = "the package index says it" if key.partition(".")[0] in INDEX else ""
            yield unchecked(file, key, line.value, asked.get(key) or why or "no file of it says so")
        elif _plain(fresh.value) != _plain(line.value):
            yield contradicted(file, key, line.value, source, f"is {fresh.value!r} there")
        else:
            yield confirmed(file, key, line.value, source)
            if key in noted and noted[key] != fresh.note:
                why = f"the comment should be {fresh.note}"
                yield contradicted(file, f"{key} (source)", noted[key], source, why)
    for key, fresh in said.items():
        if key not in stated:
            why = f"is {fresh.value!r} there"
            yield contradicted(file, key, None, _source(key, derived.facts), why)


def notes(text: str) -> dict[str, str]:
    """Key -> the comment beside it."""
    found, parent = {}, ""
    for line in text.splitlines():
        key = re.match(r"^( *)([\w-]+):", line)
        if key:
            name = f"{parent}.{key[2]}" if key[1] else key[2]
            parent = parent if key[1] else key[2]
            if match := NOTE.match(line):
                found[name] = match[3]
    return found


def platforms(matrix: Mapping[str, Any], sources: Iterable[Sources]) -> Iterator[Statement]:
    """The SOC_VERSION and the tag part of each platform, as every release's Dockerfiles have it."""
    said: dict[tuple[str, str], Fact] = {}
    for one in sources:
        for name, facts in (
            ("soc_version", pins.soc_versions(one)),
            ("cann_tag", pins.cann_tags(one)),
        ):
            for fact in facts:
                said[fact.key, name] = fact  # the newest release's
    for platform, entry in matrix["platforms"].items():
        for name in ("soc_version", "cann_tag"):
            key, value = f"platforms.{platform}.{name}", entry[name]
            known = said.get((platform, name))
            if known is None:
                yield unchecked(MATRIX, key, value, "no Dockerfile of these releases is for it")
            elif known.value != value:
                yield contradicted(MATRIX, key, value, known.source, f"is {known.value!r} there")
            else:
                yield confirmed(MATRIX, key, value, known.source)


def pairs(matrix: Mapping[str, Any], derived: Mapping[str, Derived]) -> Iterator[Statement]:
    """Each torch_npu with its torch and CANN is what some release installs."""
    installed = {}
    for one in derived.values():
        facts = {fact.key: fact for fact in one.facts}
        if {"torch", "torch_npu", "cann"} <= facts.keys():
            values = tuple(facts[name].value for name in ("torch", "torch_npu", "cann"))
            installed[values] = facts["torch_npu"].source
    for number, pair in enumerate(matrix["pairs"]):
        for cann in pair["cann"]:
            key, value = f"pairs.{number}", (str(pair["torch"]), str(pair["torch_npu"]), cann)
            if value in installed:
                yield confirmed(MATRIX, key, " ".join(value), installed[value])
            else:
                why = "no release that is audited installs these together"
                yield unchecked(MATRIX, key, " ".join(value), why)


def _source(key: str, facts: Iterable[Fact]) -> str:
    return next(
        (one.source for one in facts if one.key == key or one.key.startswith(f"{key}.")), ""
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
