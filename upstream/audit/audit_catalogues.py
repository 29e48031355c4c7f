"""Audit env/flags, env/variables and env/keys against a release's sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import Finding
from upstream.audit.audit_result import AuditResult, compared, confirmed, contradicted, unchecked
from upstream.catalogues import config_catalogue
from upstream.catalogues.variables import PUBLISHED, SETS, SOURCES
from upstream.catalogues.vllm_parser import READS
from upstream.dialect import python_source
from upstream.dialect.upstream_names import ARGS, ENVS, package_trees
from upstream.sources import Sources, Tree

# Why a name must not be in a list of env/variables.
WRONG_LIST = {
    "vllm": "vllm/envs.py has no such variable",
    "read": "no source reads it, or envs.py has it",
    "unread": "no document sets it, or a source reads it",
}
TYPES_UNCHECKED = "only vLLM's parser knows the types: invoke audit --flags"


def flags(
    file: str,
    document: Mapping[str, Any],
    sources: Sources,
    parser: Iterable[Finding] | None = None,
) -> Iterator[AuditResult]:
    """Audit the flags, and the defaults that are constants.

    `parser`: findings of vLLM's own parser; None if it was not queried.
    """
    vllm = package_trees(sources)["vllm"]
    there = python_source.flags(vllm)
    defaults = python_source.defaults(vllm)
    named: set[str] = set()
    for option, entry in document["options"].items():
        key, name = f"options.{option}", option.removeprefix("--")
        named |= {name, *(one.removeprefix("--") for one in entry.get("aliases", ()))}
        if name not in there:
            yield contradicted(file, key, option, vllm.cite(ARGS), "is not a flag there")
            continue
        yield confirmed(file, key, option, there[name])
        default = defaults.get(name.replace("-", "_"))
        if default and "default" in entry and isinstance(default.value, (bool, int, float, str)):
            at, value = f"{key}.default", entry["default"]
            if value == default.value or str(value) == str(default.value):
                yield confirmed(file, at, value, default.source)
            else:
                yield contradicted(file, at, value, default.source, f"is {default.value!r} there")
    for name in sorted(set(there) - named):
        yield contradicted(file, f"options.--{name}", None, there[name], "is a flag there")
    kinds = f"{len(document['options'])} types and choices"
    if parser is None:
        yield unchecked(file, "options", kinds, TYPES_UNCHECKED)
        return
    problems = list(parser)
    for one in problems:
        yield contradicted(file, one.where, None, "vLLM's parser", one.message)
    if not problems:
        yield confirmed(file, "options", kinds, f"{vllm}: its parser")


def variables(
    file: str,
    document: Mapping[str, Any],
    sources: Sources,
    members: Callable[[Tree], Iterable[tuple[str, str]]],
) -> Iterator[AuditResult]:
    """Audit the variables, and the defaults of vllm-ascend.

    `members`: the files of vllm-ascend, including C++, as (path, text).
    """
    both = package_trees(sources)
    vllm, ours = both["vllm"], both["vllm-ascend"]
    theirs = python_source.variables(vllm, ENVS["vllm"])
    own = python_source.variables(ours, ENVS["vllm-ascend"])
    read, published = _read(vllm, ours, members)
    for name, default in document["vllm_ascend"].items():
        key, found = f"vllm_ascend.{name}", own.get(name)
        if found is None:
            where = ours.cite(ENVS["vllm-ascend"])
            yield contradicted(file, key, default, where, "is not a variable there")
        else:
            yield compared(file, key, default, found.default, found.source)
    known = {one.name: one.source for one in theirs.values()}
    defined = {one.name: one.source for one in own.values()}
    known_or_read = {*known, *defined, *read}
    for kind, there in (
        ("vllm", known),
        ("read", {n: s for n, s in read.items() if n not in known and n not in defined}),
        ("unread", {n: s for n, s in published.items() if n not in known_or_read}),
    ):
        listed = document[kind]
        for name in listed:
            if name in there:
                yield confirmed(file, f"{kind}.{name}", name, there[name])
            else:
                yield contradicted(file, f"{kind}.{name}", name, "", WRONG_LIST[kind])
        for name in sorted(set(there) - set(listed)):
            yield contradicted(file, f"{kind}.{name}", None, there[name], "is missing in the file")
    for name in sorted(set(defined) - set(document["vllm_ascend"])):
        key = f"vllm_ascend.{name}"
        yield contradicted(file, key, None, defined[name], "is missing in the file")


def keys(file: str, document: Mapping[str, Any], sources: Sources) -> Iterator[AuditResult]:
    """Audit the keys of --additional-config and of the connectors."""
    there = config_catalogue.catalogue(sources)
    for group in ("additional_config", "connectors"):
        here = document[group]
        for name in sorted({*here, *there[group]}):
            at = f"{group}.{name}"
            have, wanted = here.get(name), there[group].get(name)
            source = (wanted or have).get("source", "")
            tree = sources.vllm if source.startswith("vllm/") else sources.vllm_ascend
            place = tree.cite(source) if source else str(tree)
            if wanted is None:
                yield contradicted(file, at, have, str(sources.vllm_ascend), "is not read there")
            else:
                yield compared(file, at, have, wanted, place)
    yield compared(file, "shared", document["shared"], there["shared"], str(sources.vllm_ascend))


def _read(
    vllm: Tree, ours: Tree, members: Callable[[Tree], Iterable[tuple[str, str]]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Names that a source reads, and names that vllm-ascend's documents set; each → citation."""
    read: dict[str, str] = {}
    published: dict[str, str] = {}
    for path in vllm.matching(r"vllm/.*\.py"):
        text = vllm.files[path]
        for match in READS.finditer(text):
            read.setdefault(match[1] or match[2], _place(vllm, path, text, match.start()))
    for path, text in members(ours):
        if SOURCES.fullmatch(path):
            for match in READS.finditer(text):
                read.setdefault(match[1] or match[2], _place(ours, path, text, match.start()))
        elif PUBLISHED.fullmatch(path):
            for match in SETS.finditer(text):
                published.setdefault(match[1], _place(ours, path, text, match.start()))
    return read, published


def _place(tree: Tree, path: str, text: str, start: int) -> str:
    return tree.cite(path, text.count("\n", 0, start) + 1)


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
