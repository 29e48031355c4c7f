"""Audit images/releases, and the platforms and pairs of images/matrix.yaml."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from upstream.audit.audit_result import (
    AuditResult,
    compared,
    confirmed,
    contradicted,
    found,
    unchecked,
)
from upstream.bump import pins, pins_file
from upstream.facts import Derived, Fact
from upstream.sources import Sources

MATRIX = "images/matrix.yaml"
NOTE = re.compile(r"^( *)([\w-]+):.*?  # (.*)$")
INDEX = ("published", "later")  # dates from the package index


def audit(
    file: str, path: Path, derived: Derived, uploaded: datetime.date | None = None
) -> Iterator[AuditResult]:
    """Audit each pin of a release, and the source in its comment.

    `uploaded`: the day after the release's upload, if known. If a script of upstream's image
    replaces a package, its pin is contradicted until a person decides.
    """
    stated, upstream = pins_file.read(path), pins_file.from_facts(derived.facts)
    comments = notes(path.read_text(encoding="utf-8"))
    questions = {one.key: one.question for one in derived.decisions}
    replaced = {
        one.key: claim
        for one in derived.contradictions
        for claim in one.claims
        if re.search(r"\.sh:\d+$", claim[1])
    }
    for key, line in stated.items():
        fresh = upstream.get(key)
        source = _source(key, derived.facts)
        if line.by_hand:
            beside = f"; upstream's is {fresh.value!r}" if fresh else ""
            yield unchecked(file, key, line.value, f"{line.note}{beside}", source)
        elif key == "published" and uploaded:
            yield compared(file, key, line.value, uploaded, "the package index's upload time")
        elif fresh is None and (key in questions or key.partition(".")[0] in INDEX):
            why = questions.get(key) or "only the package index states it"
            yield unchecked(file, key, line.value, why)
        elif fresh is None:
            why = "no file of upstream states it; say why in a comment: by hand: …"
            yield contradicted(file, key, line.value, "", why)
        elif key in replaced:
            value, place = replaced[key]
            why = f"a script of upstream's image installs {value}; decide, and mark it: by hand: …"
            yield contradicted(file, key, line.value, place, why)
        elif _plain(fresh.value) != _plain(line.value):
            yield contradicted(file, key, line.value, source, f"is {fresh.value!r} there")
        else:
            yield confirmed(file, key, line.value, source)
            if key in comments and comments[key] != fresh.note:
                why = f"the comment should be {fresh.note}"
                yield contradicted(file, f"{key} (source)", comments[key], source, why)
    for key, fresh in upstream.items():
        if key not in stated:
            why = f"is {fresh.value!r} there"
            yield contradicted(file, key, None, _source(key, derived.facts), why)


def notes(text: str) -> dict[str, str]:
    """Key → the comment on its line."""
    found, parent = {}, ""
    for line in text.splitlines():
        key = re.match(r"^( *)([\w-]+):", line)
        if key:
            name = f"{parent}.{key[2]}" if key[1] else key[2]
            parent = parent if key[1] else key[2]
            if match := NOTE.match(line):
                found[name] = match[3]
    return found


def platforms(matrix: Mapping[str, Any], sources: Iterable[Sources]) -> Iterator[AuditResult]:
    """Audit SOC_VERSION and CANN tag of each platform against every release's Dockerfiles."""
    newest: dict[tuple[str, str], Fact] = {}
    for one in sources:
        for name, facts in (
            ("soc_version", pins.soc_versions(one)),
            ("cann_tag", pins.cann_tags(one)),
        ):
            for fact in facts:
                newest[fact.key, name] = fact
    for platform, entry in matrix["platforms"].items():
        for name in ("soc_version", "cann_tag"):
            key, value = f"platforms.{platform}.{name}", entry[name]
            known = newest.get((platform, name))
            if known is None:
                yield unchecked(MATRIX, key, value, "these releases have no Dockerfile for it")
            else:
                yield compared(MATRIX, key, value, known.value, known.source)


def shared(matrix: Mapping[str, Any], sources: Iterable[Sources]) -> Iterator[AuditResult]:
    """Audit the base image and the common requirements against the newest Dockerfiles with them."""
    texts = {"images.cann": f"{matrix.get('images', {}).get('cann', '')}:"}
    for one in matrix.get("common_requirements", ()):
        texts[f"common_requirements.{matrix['common_requirements'].index(one)}"] = one
    trees = [one.vllm_ascend for one in sources][::-1]
    for key, text in texts.items():
        pattern = rf"(?<![\w.-]){re.escape(text)}(?=['\"\s\d]|$)"
        places = (t.locate(path, pattern) for t in trees for path in t.matching(r"Dockerfile.*"))
        place = next(filter(None, places), None)
        if text != ":":
            yield found(MATRIX, key, text.rstrip(":"), place, "", "no Dockerfile has it")


def pairs(matrix: Mapping[str, Any], derived: Mapping[str, Derived]) -> Iterator[AuditResult]:
    """Audit that some release installs each pair of torch and torch_npu with its CANN.

    `bump` writes each pair for a release, so a pair that no release installs is an error.
    """
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
                why = "no release installs these together"
                yield contradicted(MATRIX, key, " ".join(value), "", why)


def _source(key: str, facts: Iterable[Fact]) -> str:
    return next(
        (one.source for one in facts if one.key == key or one.key.startswith(f"{key}.")), ""
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
