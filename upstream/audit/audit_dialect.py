"""Audit env/releases against a release's sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from packaging.version import InvalidVersion, Version

from upstream.audit.audit_result import (
    CONTRADICTED,
    AuditResult,
    compared,
    confirmed,
    contradicted,
    flat,
    unchecked,
    unsourced,
)
from upstream.audit.citations import OF, Library, check, places
from upstream.dialect import derive, python_source
from upstream.dialect.upstream_names import vllm_only
from upstream.facts import Contradiction, Fact
from upstream.sources import Sources

GONE = ("connectors_gone", "flags_gone", "variables_gone")
MAY_BE_EMPTY = ("fused_mc2_largest_ep", "image_env")
FLAG = re.compile(r"--([a-z][a-z-]+)")
PORTS_UNCHECKED = "only Mooncake's C++ code has its ports, which no Python package contains"
WORDS = ("instead", "fix", "since")
TOLERANCE = 5  # lines between a citation and the derived fact
NO_SOURCES = "cannot be checked without vllm-ascend"


def audit(
    file: str,
    document: Mapping[str, Any],
    earlier: Mapping[str, Mapping[str, Any]],
    sources: Sources,
    library: Library,
) -> Iterator[AuditResult]:
    """Audit each leaf of the file, and report what the sources have and the file lacks.

    `earlier`: the documents of earlier releases, by name.
    """
    derived = derive(sources, _before(document, earlier))
    facts = {fact.key: fact for fact in derived.facts}
    questions = {one.key: one.question for one in derived.decisions}
    disputes = {one.key: _dispute(one) for one in derived.contradictions}
    stated = flat(document)
    for key, value in stated.items():
        if key.rpartition(".")[2] == "source":
            yield _cited(file, key, value, facts, library)
        elif key.partition(".")[0] in GONE:
            yield from _gone(file, key, value, facts, sources)
        else:
            leaf = _leaf(file, key, value, facts, questions, sources)
            yield replace(leaf, why=f"{leaf.why}; {disputes[key]}") if key in disputes else leaf
    yield from _missing(file, stated, facts)
    for group, entry in _groups(document):
        if isinstance(entry, Mapping) and entry and not str(entry.get("source", "")).strip():
            yield unsourced(file, group, entry)


def _dispute(contradiction: Contradiction) -> str:
    """The first claim of a contradiction, for people."""
    value, source = contradiction.claims[0]
    return f"but {source} says {value!r}"


def _before(
    document: Mapping[str, Any], earlier: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The document with the connectors of all earlier releases."""
    connectors = {
        package: {"names": list(dict.fromkeys(names))}
        for package, names in _registered(earlier, document).items()
    }
    return {**document, "connectors": connectors}


def _registered(
    earlier: Mapping[str, Mapping[str, Any]], document: Mapping[str, Any]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in (*earlier.values(), document):
        for package, group in one.get("connectors", {}).items():
            found.setdefault(package, []).extend(group.get("names", ()))
    return found


def _leaf(
    file: str,
    key: str,
    value: Any,
    facts: Mapping[str, Fact],
    questions: Mapping[str, str],
    sources: Sources,
) -> AuditResult:
    fact = facts.get(key)
    if fact and not _same(fact.value, value):
        return contradicted(file, key, value, fact.source, f"is {fact.value!r} there")
    if fact and not OF.match(fact.source):
        return unchecked(file, key, value, PORTS_UNCHECKED, fact.source)
    if fact:
        return confirmed(file, key, value, fact.source)
    if key == "vllm" and vllm_only(sources):
        return compared(file, key, value, sources.vllm.version, str(sources.vllm))
    group = key.rpartition(".")[0]
    beside = [one for name, one in facts.items() if group and name.startswith(f"{group}.")]
    if beside:
        found = ", ".join(f"{one.key.rpartition('.')[2]} {one.value!r}" for one in beside)
        return contradicted(file, key, value, beside[0].source, f"has {found} instead")
    for asked, question in questions.items():
        if key == asked or key.startswith(f"{asked}."):
            return unchecked(file, key, value, question)
    if vllm_only(sources):
        return unchecked(file, key, value, NO_SOURCES)
    if key in MAY_BE_EMPTY and not value:
        return confirmed(file, key, value, str(sources.vllm_ascend))
    return unchecked(file, key, value, "cannot be derived from the sources")


def _gone(
    file: str,
    key: str,
    value: Any,
    facts: Mapping[str, Fact],
    sources: Sources,
) -> Iterator[AuditResult]:
    """Audit a removed name: the sources must lack it, and have the connector that replaces it."""
    kind, _, rest = key.partition(".")
    if not rest:  # an empty mapping
        yield confirmed(file, key, value, str(sources.vllm_ascend))
        return
    name, _, leaf = rest.rpartition(".")
    fact = facts.get(f"{kind}.{name}.gone")
    if fact is None:
        if vllm_only(sources) and kind == "variables_gone":
            yield unchecked(file, key, value, NO_SOURCES)
        else:
            tree = sources.vllm_ascend if kind == "variables_gone" else sources.vllm
            yield contradicted(file, key, value, str(tree), f"{name} still exists")
    elif leaf == "instead" and kind == "connectors_gone":
        if f"{kind}.{name}.instead" in facts:
            yield confirmed(file, key, value, fact.source)
        else:
            yield contradicted(file, key, value, fact.source, f"{value} is not registered")
    elif leaf == "since" and _later(str(value), sources.release):
        yield contradicted(file, key, value, fact.source, f"is already gone in {sources.release}")
    elif kind == "flags_gone" and (unknown := _unknown_flags(str(value), sources)):
        yield contradicted(file, key, value, fact.source, f"--{unknown[0]} does not exist")
    elif leaf in WORDS:
        yield confirmed(file, key, value, fact.source)
    else:
        yield contradicted(file, key, value, fact.source, f"an entry of {kind} has no {leaf}")


def _unknown_flags(words: str, sources: Sources) -> list[str]:
    there = python_source.flags(sources.vllm)
    return [name for name in FLAG.findall(words) if name not in there]


def _later(since: str, release: str) -> bool:
    """Whether `since` is a later release, or not a release."""
    try:
        return Version(since.removeprefix("v")) > Version(release.removeprefix("v"))
    except InvalidVersion:
        return True


def _missing(
    file: str, stated: Mapping[str, Any], facts: Mapping[str, Fact]
) -> Iterator[AuditResult]:
    for key, fact in facts.items():
        kind, _, rest = key.partition(".")
        if kind in GONE:
            name, _, leaf = rest.rpartition(".")
            there = any(one.startswith(f"{kind}.{name}.") for one in stated)
            if leaf == "gone" and not there:
                yield contradicted(file, f"{kind}.{name}", None, fact.source, "is gone there")
        elif key not in stated:
            group = key.rpartition(".")[0]
            siblings = [one for one in stated if group and one.startswith(f"{group}.")]
            if any(one not in facts for one in siblings if not one.endswith(".source")):
                continue  # reported for the sibling that the sources lack
            yield contradicted(file, key, None, fact.source, f"is {fact.value!r} there")


def _cited(
    file: str, key: str, value: Any, facts: Mapping[str, Fact], library: Library
) -> AuditResult:
    """Audit a citation: the place must exist, near the line that its fact is derived from."""
    group = key.rpartition(".")[0]
    outcome = check(str(value), library)
    wanted = next((one for name, one in facts.items() if name.startswith(f"{group}.")), None)
    if outcome.verdict == CONTRADICTED:
        return contradicted(file, key, value, outcome.source, outcome.why)
    if wanted and OF.match(str(value)) and not _agree(str(value), wanted.source):
        return contradicted(file, key, value, wanted.source, "the source is there, not here")
    return AuditResult(file, key, value, outcome.verdict, outcome.source, outcome.why)


def _agree(source: str, other: str) -> bool:
    """Whether both citations name the same file and, if both have lines, nearby ones."""
    theirs = next(places(other), None)
    if theirs is None:
        return True
    for one in places(source):
        if (one.package, one.first, one.path) == (theirs.package, theirs.first, theirs.path):
            line = theirs.lines[0][0] if theirs.lines else None
            if not one.lines or line is None:
                return True
            if any(first - TOLERANCE <= line <= last + TOLERANCE for first, last in one.lines):
                return True
    return False


def _groups(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries that must have a source, with their dotted keys."""
    for key, value in document.items():
        if not isinstance(value, Mapping):
            continue
        if key in ("features", "connectors", *GONE):
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        else:
            yield key, value


def _same(one: Any, two: Any) -> bool:
    return bool(one == two) and type(one) is type(two)
