"""Every link in README, docs and the other pages leads to a file, and to a heading of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from markdown_it.token import Token

from docs.render.markdown import anchor
from tests import ROOT
from tests.docs.blocks import PAGES, parsed

OTHERS = [
    ROOT / name
    for name in ("README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", ".github/SECURITY.md")
]


def links(tokens: list[Token]) -> Iterator[str]:
    """The targets of links and pictures that are not of another server."""
    for token in tokens:
        for inner in token.children or ():
            target = str(inner.attrs.get("href") or inner.attrs.get("src") or "")
            if target and not re.match(r"[a-z]+:", target):
                yield target


@cache
def anchors(path: Path) -> frozenset[str]:
    """The fragments of a page's headings as GitHub makes them: the second of a name ends in -1."""
    found: list[str] = []
    tokens = parsed(path)
    for heading, text in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            words = "".join(one.content for one in text.children or ())
            made = anchor(words)
            found.append(made if made not in found else f"{made}-{found.count(made)}")
    return frozenset(found)


@pytest.mark.parametrize("path", [*PAGES, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_something(path: Path) -> None:
    dead = []
    for target in links(parsed(path)):
        file, _, fragment = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        if not to.exists() or (fragment and to.suffix == ".md" and fragment not in anchors(to)):
            dead.append(target)
    assert dead == []


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        targets = (target.partition("#")[0] for target in links(parsed(page)))
        found = {(page.parent / one).resolve() for one in targets if one.endswith(".md")}
        waiting += sorted(found - seen)
    assert [str(page) for page in PAGES if page not in seen] == []


def test_texts_of_the_project_name_pages_that_are_there() -> None:
    """Messages and comments say `docs/run.md`."""
    named = re.compile(r"\bdocs/[a-z/.0-9-]+\.md\b")
    folders = ("clusters", "commands", "common", "docs/render", "entrypoints", "images", "upstream",
               "validation")  # fmt: skip
    texts = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "docs/source" not in path.read_text(encoding="utf-8")
    ]
    assert len(texts) > 200
    dead = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert dead == []
