"""Parse citations of sources, and check that the cited places exist.

`vllm v0.13.0: vllm/config/vllm.py:536-570`; commas separate several lines, names and files, and
semicolons separate several sources: `vllm-ascend v0.18.0: Dockerfile:36, 89, requirements.txt:5`.
Without a version, or with a range of versions, each release's sources must have the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import InvalidVersion, Version

from common.paths import ROOT
from upstream.audit.audit_result import CONFIRMED, CONTRADICTED, UNCHECKED
from upstream.sources import Tree

OF = re.compile(
    r"(?P<package>vllm-ascend|vllm|megatron-bridge)"
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
ELSEWHERE = "belongs to no audited release"
NEAR = 12  # lines before and after a cited line


@dataclass(frozen=True)
class Place:
    """A cited file. `lines`: (first, last) of each range. `symbols`: names that it must contain."""

    package: str
    first: str
    last: str
    path: str
    lines: tuple[tuple[int, int], ...] = ()
    symbols: tuple[str, ...] = ()

    def versions(self, known: Iterable[str]) -> list[str]:
        """The versions among `known` that the citation covers."""
        if not self.first:
            return list(known)
        last = self.last or self.first
        return [one for one in known if _version(self.first) <= _version(one) <= _version(last)]


@dataclass(frozen=True)
class Outcome:
    """A verdict, the citation behind it, and the reason."""

    verdict: str
    source: str = ""
    why: str = ""


@dataclass(frozen=True)
class Library:
    """The distributions that may be cited. `trees`: package → version → files, oldest first."""

    trees: Mapping[str, Mapping[str, Tree]]
    root: Path = ROOT

    def of(self, package: str) -> Mapping[str, Tree]:
        return self.trees.get(package, {})


def check(source: str, library: Library, words: Iterable[str] = ()) -> Outcome:
    """Check that every place exists. `words`: one of them must be near a cited line."""
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
            yield from _check_place(place, library, words)
    elif match := DOCUMENT.fullmatch(segment):
        yield _document(match, library)
    elif ISSUES.fullmatch(segment):
        yield Outcome(UNCHECKED, why="is an issue or a pull request")
    elif OWN.fullmatch(segment):
        if (library.root / segment).is_file():
            yield Outcome(CONFIRMED, segment)
        else:
            yield Outcome(CONTRADICTED, why=f"{segment} does not exist")
    else:
        yield Outcome(UNCHECKED, why="names no file of vllm or vllm-ascend")


def places(segment: str) -> Iterator[Place]:
    """The cited files; a part that is neither file, line nor name ends the list."""
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


def _check_place(place: Place, library: Library, words: tuple[str, ...]) -> Iterator[Outcome]:
    known = library.of(place.package)
    versions = place.versions(known)
    if not versions:
        yield Outcome(UNCHECKED, why=f"{place.package} v{place.first} {ELSEWHERE}")
    for version in versions:
        yield _check_file(place, known[version], words)


def _check_file(place: Place, tree: Tree, words: tuple[str, ...]) -> Outcome:
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
            why = f"has only {len(lines)} lines"
            return Outcome(CONTRADICTED, tree.cite(place.path), why)
    near = [lines[max(0, a - 1 - NEAR) : b + NEAR] for a, b in place.lines]
    if (
        words
        and near
        and not _contains_any(words, "\n".join(line for part in near for line in part))
    ):
        why = f"{' or '.join(words)} is not near that line"
        return Outcome(CONTRADICTED, tree.cite(place.path, place.lines[0][0]), why)
    return Outcome(CONFIRMED, tree.cite(place.path, place.lines[0][0] if place.lines else None))


def _contains_any(words: Iterable[str], text: str) -> bool:
    """Whether the text has one of the names as a flag, a field or a variable."""
    lower = text.lower().replace("-", "_")
    return any(word.strip("-").lower().replace("-", "_") in lower for word in words)


def _document(match: re.Match[str], library: Library) -> Outcome:
    """Look up a document by its title in the newest release."""
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
