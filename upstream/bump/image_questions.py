"""Questions about contents and build settings of upstream's image that have no pin."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upstream import shipped
from upstream.dockerfile import dockerfiles
from upstream.facts import Decision, join_citations
from upstream.sources import Tree


def ask(tree: Tree) -> Iterator[Decision]:
    yield from _downloads(tree)
    yield from _scripts(tree)
    yield from build_variables(tree)


def _downloads(tree: Tree) -> Iterator[Decision]:
    seen: dict[str, list[str]] = {}
    for one in dockerfiles(tree):
        for address, line in one.downloads():
            seen.setdefault(address, []).append(one.cite(line))
    if seen:
        named = "; ".join(
            f"{address} ({join_citations(sources)})" for address, sources in seen.items()
        )
        question = f"Dockerfiles install what no pin covers: is it needed? {named}"
        yield Decision("downloads", question, "left out")


def _scripts(tree: Tree) -> Iterator[Decision]:
    """Packages that a script of the release installs in place of the pinned ones."""
    found = shipped.snapshots(tree)
    if found:
        named = "; ".join(
            f"{one.package} {one.version} from {one.address or 'a local file'} ({one.source})"
            for one in found
        )
        run_by = join_citations(one.run_by for one in found)
        question = (
            f"{run_by} runs a script that replaces packages without checking a hash, so upstream's"
            f" image is not what its requirements state: which versions are right? {named}"
        )
        yield Decision("scripts", question, "what the Dockerfile and requirements.txt state")


def _readers(tree: Tree, name: str) -> Iterator[str]:
    """The first place in each script of the release that reads a variable."""
    for path in tree.matching(r".*\.sh|setup\.py|.*\.cmake|.*CMakeLists\.txt"):
        if place := tree.locate(path, rf"\b{re.escape(name)}\b"):
            yield place.partition(": ")[2]


def build_variables(tree: Tree) -> Iterator[Decision]:
    """Variables that upstream's build sets and this project's builds do not."""
    for name, one in shipped.taken(tree, shipped.build_environment(tree)).items():
        question = (
            f"{one.source} builds with {name}={one.value}, builds here without it;"
            f" {', '.join(_readers(tree, name)) or 'no script of the release'} reads it: does the"
            " image need what it adds?"
        )
        yield Decision(f"build_variables.{name}", question, "left out")
