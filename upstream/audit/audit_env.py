"""Audit the other files of env/, and data elsewhere with sources, against every release."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common import yaml as reading
from upstream.audit.audit_result import (
    CONFIRMED,
    AuditResult,
    compared,
    confirmed,
    contradicted,
    found,
    unchecked,
    unsourced,
)
from upstream.audit.citations import Library, check
from upstream.bump import pins
from upstream.dialect import python_source
from upstream.dialect.upstream_names import CONFIG, ENVS
from upstream.sources import Sources, Tree

# Files whose `source` and `…_source` keys are audited at any depth.
SOURCED = (
    "env/stack.yaml",
    "env/models.yaml",
    "env/preflight.yaml",
    "env/keys_gone.yaml",
    "env/known_issues.yaml",
    "env/proxies.yaml",
    "clusters/checks/agree.yaml",
    "validation/endpoint/accuracy.yaml",
    "validation/endpoint/benchmarks.yaml",
)
# Lists and mappings whose every entry must have a source.
EACH = {
    "env/stack.yaml": ("features", "reserved_ports"),
    "env/models.yaml": ("models",),
}


def audit(
    root: Path, default: str, sources: Mapping[str, Sources], library: Library
) -> Iterator[AuditResult]:
    """Audit all files. `default`: the matrix's default release."""
    for file in SOURCED:
        if (root / file).is_file():
            document = _load(root / file)
            yield from cited(file, document, library)
            for key in EACH.get(file, ()):
                yield from _each(file, key, document.get(key, ()))
    trees = list(sources.values())
    yield from _features(root, trees)
    yield from _timeouts(root, trees)
    yield from _proxies(root, trees)
    yield from _models(root, trees)
    yield from _drivers(root, library)
    yield from _platforms(root, trees)
    yield from _host(root, trees)
    yield from _defaults(root, default, trees)
    yield from recipes(root, library)


def cited(file: str, document: Any, library: Library, at: str = "") -> Iterator[AuditResult]:
    """Audit each source at any depth."""
    if isinstance(document, list):
        for number, one in enumerate(document):
            yield from cited(file, one, library, _name(at, one, number))
    if not isinstance(document, Mapping):
        return
    for name, value in document.items():
        key = f"{at}.{name}" if at else str(name)
        if str(name) == "source" or str(name).endswith("_source"):
            sources = value.items() if isinstance(value, Mapping) else ((None, value),)
            for part, one in sources:
                yield audit_citation(
                    file, key if part is None else f"{key}.{part}", str(one), library
                )
        else:
            yield from cited(file, value, library, key)


def audit_citation(
    file: str, key: str, source: str, library: Library, words: Iterable[str] = ()
) -> AuditResult:
    """Audit a citation itself."""
    if not source.strip():
        return unsourced(file, key, source)
    outcome = check(source, library, words)
    return AuditResult(file, key, source, outcome.verdict, outcome.source, outcome.why)


def recipes(root: Path, library: Library) -> Iterator[AuditResult]:
    """Audit the sources of every recipe."""
    for path in sorted((root / "env" / "recipes").rglob("*.yaml")):
        file = str(path.relative_to(root))
        document = _load(path) or {}
        differs = document.get("by_release") or {}
        stated = {f"by_release.{release}.source": part for release, part in differs.items()}
        for key, part in {"source": document, **stated}.items():
            source = part.get("source") or {}
            if not source:
                yield unsourced(file, key, None)
            for of, one in source.items() if isinstance(source, Mapping) else ((None, source),):
                yield audit_citation(file, f"{key}.{of}" if of else key, str(one), library)


def _each(file: str, key: str, entries: Any) -> Iterator[AuditResult]:
    named = entries.items() if isinstance(entries, Mapping) else enumerate(entries)
    for name, entry in named:
        if not str(entry.get("source") or "").strip():
            at = f"{key}.{name}" if isinstance(entries, Mapping) else _name(key, entry, name)
            yield unsourced(file, at, entry)


def _name(at: str, entry: Any, number: object) -> str:
    named = entry.get("name", number) if isinstance(entry, Mapping) else number
    return f"{at}.{named}" if at else str(named)


# ---- values of these files -----------------------------------------------------------------------


def _features(root: Path, sources: Iterable[Sources]) -> Iterator[AuditResult]:
    """env/stack.yaml has the features that every release has in the same form."""
    file = "env/stack.yaml"
    for name, form in _load(root / file)["features"].items():
        key, arg = f"features.{name}.arg", form["arg"]
        flag, _, inner = arg.partition(".")
        for one in sources:
            place = python_source.flags(one.vllm).get(flag)
            if place and inner:
                place = _find_words(one.vllm_ascend, CONFIG, inner.split("."))
            if place is None:
                yield contradicted(file, key, arg, str(one.vllm_ascend), "has no such key or flag")
                break
        else:
            yield confirmed(file, key, arg, place or "")


def _find_words(tree: Tree, path: str, words: Iterable[str]) -> str | None:
    places = [tree.locate(path, rf"[\"']{word}[\"']") for word in words]
    return places[0] if all(places) else None


def _timeouts(root: Path, sources: Iterable[Sources]) -> Iterator[AuditResult]:
    file, key = "env/stack.yaml", "timeouts.execute_model"
    value = _load(root / file)["timeouts"]["execute_model"]
    name = "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"
    found = [python_source.variables(one.vllm, ENVS["vllm"]).get(name) for one in sources]
    for one in found:
        if one is None or one.default != str(value):
            why = f"{name} is {one.default} there" if one else f"vLLM has no {name}"
            yield contradicted(file, key, value, one.source if one else "", why)
            return
    yield confirmed(file, key, value, ", ".join(one.source for one in found[-1:] if one))


def _proxies(root: Path, sources: Iterable[Sources]) -> Iterator[AuditResult]:
    """Every release must have the example proxies."""
    file = "env/proxies.yaml"
    for connector, script in _load(root / file)["example"]["scripts"].items():
        key, place = f"example.scripts.{connector}", ""
        for one in sources:
            tree = one.vllm_ascend
            place = next(tree.matching(rf"examples/.*/{re.escape(script)}"), "")
            if not place:
                yield contradicted(file, key, script, str(tree), "has no such example")
                break
            place = tree.cite(place)
        else:
            yield confirmed(file, key, script, place)


def _models(root: Path, sources: Iterable[Sources]) -> Iterator[AuditResult]:
    """The newest release's vLLM must serve every architecture."""
    file, path = "env/models.yaml", "vllm/model_executor/models/registry.py"
    *_, newest = sources
    for entry in _load(root / file)["models"]:
        for name in entry["config"].get("architectures", ()):
            key = f"models.{entry['name']}.config.architectures"
            place = newest.vllm.locate(path, rf'"{name}"')
            yield found(file, key, name, place, newest.vllm.cite(path), "has no such model")


def _drivers(root: Path, library: Library) -> Iterator[AuditResult]:
    """The cited document must name the lowest driver of a release."""
    file = "env/preflight.yaml"
    for name, entry in _load(root / file)["driver"]["releases"].items():
        key, value = f"driver.releases.{name}.version", entry["version"]
        outcome = check(str(entry["source"]), library)
        tree, _, path = outcome.source.partition(": ")
        if outcome.verdict != CONFIRMED:
            yield unchecked(file, key, value, outcome.why)
            continue
        package, _, version = tree.partition(" v")
        place = library.of(package)[version].locate(path, rf"(?i){re.escape(str(value))}")
        yield found(file, key, value, place, outcome.source, "does not name it")


def _platforms(root: Path, sources: list[Sources]) -> Iterator[AuditResult]:
    facts = {fact.key: fact for one in sources for fact in pins.soc_versions(one)}
    for path in sorted((root / "env" / "platforms").glob("*.yaml")):
        file, document = f"env/platforms/{path.name}", _load(path)
        fact = facts.get(path.stem)
        if not fact:
            why = "these releases have no Dockerfile for it"
            yield unchecked(file, "soc", document["soc"], why)
            continue
        yield compared(file, "soc", document["soc"], fact.value, fact.source)
        yield from _servers(file, document, sources)


def _servers(
    file: str, document: Mapping[str, Any], sources: list[Sources]
) -> Iterator[AuditResult]:
    """Parse `Atlas 800 A3(64G*16)` in documents: the memory of a device, and their number."""
    title = re.escape(document["description"])
    size = rf"{title} ?\((\d+)G ?\W ?(\d+)\)"
    for one in reversed(sources):
        tree = one.vllm_ascend
        for path in tree.matching(r"docs/source/(?!locale).*\.md"):
            for match, source in tree.find(path, size):
                for key, number in (("hbm_gib", match[1]), ("devices", match[2])):
                    yield compared(file, key, document[key], int(number), source)
                return
    for key in ("hbm_gib", "devices"):
        yield unchecked(file, key, document[key], "no document of these releases names the server")
    trees = [one.vllm_ascend for one in sources]
    if not any(t.locate(p, title) for t in trees for p in t.matching(r"docs/source/.*\.md")):
        why = "no document names such a server"
        yield contradicted(file, "description", document["description"], str(trees[-1]), why)


def _host(root: Path, sources: list[Sources]) -> Iterator[AuditResult]:
    """Some document of vllm-ascend must name what containers need from the host."""
    file = "env/preflight.yaml"
    document = _load(root / file)
    for key in ("control_nodes", "mounts"):
        for path in document[key]:
            yield _documented(file, key, path, sources, r"\b")


def _defaults(root: Path, default: str, sources: list[Sources]) -> Iterator[AuditResult]:
    file = "env/defaults.yaml"
    document = _load(root / file)
    release = document["release"]
    yield compared(file, "release", release, default, "images/matrix.yaml: default_release")
    for path in document.get("jemalloc", ()):
        yield _documented(file, "jemalloc", path, sources)


def _documented(
    file: str, key: str, path: str, sources: list[Sources], end: str = ""
) -> AuditResult:
    """Confirmed if a document, a Dockerfile or an example of vllm-ascend names the path.

    Contradicted if none names even the file.
    """
    searched = r"(docs/source/(?!locale).*\.md|Dockerfile.*|examples/.*\.sh)"
    for tree in (one.vllm_ascend for one in reversed(sources)):
        for document in tree.matching(searched):
            if place := tree.locate(document, re.escape(path) + end):
                return confirmed(file, key, path, place)
    name, known = path.rpartition("/")[2], sources[-1].vllm_ascend
    if any(known.locate(one, re.escape(name) + end) for one in known.matching(searched)):
        return unchecked(file, key, path, "the documents name the file in another folder")
    return contradicted(file, key, path, str(known), "no document names it")


def _load(path: Path) -> Any:
    """Raises UserError (65) if the file is not YAML."""
    return reading.document(path) or {}
