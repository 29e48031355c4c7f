"""Sources as they are written, and whether there is what they name.

`vllm v0.13.0: vllm/config/vllm.py:536-570`; several places and names in a file are separated by
commas, several sources by semicolons: `vllm-ascend v0.18.0: Dockerfile:36, 89, requirements.txt:5`.
Without a version, or with a range of them, each release's sources must have the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import InvalidVersion, Version

from common.paths import ROOT
from upstream.audit.statement import CONFIRMED, CONTRADICTED, UNCHECKED
from upstream.sources import Tree

OF = re.compile(
    r"(?P<package>vllm-ascend|vllm)"
    r"(?: v?(?P<first>\d[\w.]*)(?:-v?(?P<last>\d[\w.]*))?)?: ?(?P<rest>\S.*)"
)
PLACE = re.compile(r"(?P<path>[\w./-]*?[\w-](?:\.[A-Za-z]\w*|/[\w-]+))(?::(?P<lines>\d[\d,-]*))?")
DOCKERFILE = re.compile(r"(?P<path>Dockerfile[\w.]*)(?::(?P<lines>\d[\d,-]*))?")
DOCUMENT = re.compile(r"vllm-ascend doc(?:s|umentation)(?::|,)? (?P<name>[\w.-]+)(?P<rest>.*)")
ISSUE = r"(?:(?:vllm-ascend|vllm) ?)?(?:PR )?#?\d+"
ISSUES = re.compile(rf"(?=vllm){ISSUE}(?:, ?{ISSUE})*(?:[ :(].*)?")
LINES = re.compile(r"\d+(?:-\d+)?")
SYMBOL = re.compile(r"[A-Za-z_]\w*")
OWN = re.compile(r"(docs|env|images)/[\w/.-]+\.(md|yaml)")
ELSEWHERE = "is of no release that is audited"
NEAR = 12  # lines before and after a cited one


@dataclass(frozen=True)
class Place:
    """A file of a distribution. `lines`: (first, last) of each; `symbols`: names that it has."""

    package: str
    first: str
    last: str
    path: str
    lines: tuple[tuple[int, int], ...] = ()
    symbols: tuple[str, ...] = ()

    def versions(self, known: Iterable[str]) -> list[str]:
        """Those of `known` that the source speaks of."""
        if not self.first:
            return list(known)
        last = self.last or self.first
        return [one for one in known if _version(self.first) <= _version(one) <= _version(last)]


@dataclass(frozen=True)
class Outcome:
    """A verdict, the place that has it, and why."""

    verdict: str
    source: str = ""
    why: str = ""


@dataclass(frozen=True)
class Library:
    """The distributions that sources may name. `trees`: package -> version -> files, in order."""

    trees: Mapping[str, Mapping[str, Tree]]
    root: Path = ROOT

    def of(self, package: str) -> Mapping[str, Tree]:
        return self.trees.get(package, {})


def check(source: str, library: Library, words: Iterable[str] = ()) -> Outcome:
    """Whether every place is there. `words`: names of which one should stand near a cited line."""
    wanted = tuple(words)
    outcomes = [
        outcome
        for segment in source.strip().split("; ")
        for outcome in _segment(segment, library, wanted)
    ]
    for verdict in (CONTRADICTED, CONFIRMED, UNCHECKED):
        found = [one for one in outcomes if one.verdict == verdict]
        if found and verdict == CONFIRMED:
            return Outcome(CONFIRMED, ", ".join(dict.fromkeys(one.source for one in found)))
        if found:
            return found[0]
    return Outcome(UNCHECKED, why="names no file")


def _segment(segment: str, library: Library, words: tuple[str, ...]) -> Iterator[Outcome]:
    found = OF.fullmatch(segment)
    if found and (listed := list(places(segment))):
        for place in listed:
            yield from _place(place, library, words)
    elif match := DOCUMENT.fullmatch(segment):
        yield _document(match, library)
    elif ISSUES.fullmatch(segment):
        yield Outcome(UNCHECKED, why="is an issue or a pull request")
    elif OWN.fullmatch(segment):
        if (library.root / segment).is_file():
            yield Outcome(CONFIRMED, segment)
        else:
            yield Outcome(CONTRADICTED, why=f"there is no {segment} here")
    else:
        yield Outcome(UNCHECKED, why="names no file of vllm or vllm-ascend")


def places(segment: str) -> Iterator[Place]:
    """The files that a source names; words that are neither file, line nor name end the list."""
    match = OF.fullmatch(segment)
    if not match:
        return
    package, first, last = match["package"], match["first"] or "", match["last"] or ""
    place: Place | None = None
    for part in match["rest"].split(", "):
        word, _, prose = part.partition(" ")
        named = DOCKERFILE.fullmatch(word) or PLACE.fullmatch(word)
        if named:
            if place:
                yield place
            place = Place(package, first, last, named["path"], _spans(named["lines"] or ""))
            if prose:
                break
        elif place and LINES.fullmatch(part):
            place = replace(place, lines=(*place.lines, *_spans(part)))
        elif place and SYMBOL.fullmatch(part):
            place = replace(place, symbols=(*place.symbols, part))
        else:
            break
    if place:
        yield place


def _spans(text: str) -> tuple[tuple[int, int], ...]:
    spans = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        spans.append((int(first), int(last or first)))
    return tuple(spans)


def _place(place: Place, library: Library, words: tuple[str, ...]) -> Iterator[Outcome]:
    known = library.of(place.package)
    versions = place.versions(known)
    if not versions:
        said = f"{place.package} v{place.first}"
        yield Outcome(UNCHECKED, why=f"{said} {ELSEWHERE}")
    for version in versions:
        yield _in(place, known[version], words)


def _in(place: Place, tree: Tree, words: tuple[str, ...]) -> Outcome:
    text = tree.files.get(place.path)
    if text is None:
        if any(path.startswith(f"{place.path.rstrip('/')}/") for path in tree.files):
            return Outcome(CONFIRMED, tree.cite(place.path))
        return Outcome(CONTRADICTED, why=f"{tree} has no {place.path}")
    lines = text.splitlines()
    for symbol in place.symbols:
        if not re.search(rf"\b{symbol}\b", text):
            return Outcome(CONTRADICTED, tree.cite(place.path), f"{symbol} is not in it")
    for first, last in place.lines:
        if not 1 <= first <= last <= len(lines):
            why = f"it has {len(lines)} lines"
            return Outcome(CONTRADICTED, tree.cite(place.path), why)
    near = [lines[max(0, a - 1 - NEAR) : b + NEAR] for a, b in place.lines]
    if words and near and not _any(words, "\n".join(line for part in near for line in part)):
        why = f"{' or '.join(words)} is not near that line"
        return Outcome(CONTRADICTED, tree.cite(place.path, place.lines[0][0]), why)
    return Outcome(CONFIRMED, tree.cite(place.path, place.lines[0][0] if place.lines else None))


def _any(words: Iterable[str], text: str) -> bool:
    """Whether one of the names is there, as a flag, a field or a variable."""
    lower = text.lower().replace("-", "_")
    return any(word.strip("-").lower().replace("-", "_") in lower for word in words)


def _document(match: re.Match[str], library: Library) -> Outcome:
    """A document by its title: the newest release's file of that name."""
    stem = match["name"].removesuffix(".md").rstrip(",")
    for tree in reversed(list(library.of("vllm-ascend").values())):
        for path in tree.matching(rf"docs/source/.*\b{re.escape(stem)}(-[\w-]+)?\.md"):
            return Outcome(CONFIRMED, tree.cite(path))
    return Outcome(UNCHECKED, why="names no file of vllm-ascend's documents")


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
