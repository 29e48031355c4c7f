"""What changed in upstream's image besides the pins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from upstream import shipped
from upstream.bump import release_diff
from upstream.bump.pins import NAMED, PINNED
from upstream.bump.release_diff import Change, Section
from upstream.dialect import python_source
from upstream.dialect.upstream_names import ENVS, package_trees
from upstream.shipped import Cited, Values
from upstream.sources import Sources, Tree


def compare(before: Tree, after: Tree) -> list[Section]:
    """The sections of the comparison; each change has its source in the new release."""
    parts = {
        "variables of the image": _env,
        "variables of its build": _built,
        "base images": shipped.bases,
        "package indexes": shipped.indexes,
        "packages that a script replaces": _replaced,
        "requirements without a pin here": _required,
    }
    return [
        Section(title, tuple(_changes(values(before), values(after))), table=True)
        for title, values in parts.items()
    ]


def catalogues(before: Sources, after: Sources) -> list[Section]:
    """Flags and variables by name, from the sources, for a release without catalogues yet."""
    old, new = package_trees(before), package_trees(after)
    return [
        Section(title, tuple(release_diff.named(names(old), names(new))))
        for title, names in {
            "flags of vllm serve": _flags,
            "environment variables": _variables,
        }.items()
    ]


def _flags(trees: Mapping[str, Tree]) -> dict[str, Any]:
    return dict.fromkeys(f"--{name}" for name in python_source.flags(trees["vllm"]))


def _variables(trees: Mapping[str, Tree]) -> dict[str, Any]:
    return {
        name: {"default": one.default if package == "vllm-ascend" else None}
        for package, tree in trees.items()
        for name, one in python_source.variables(tree, ENVS[package]).items()
        if name.startswith(release_diff.PREFIX)
    }


def _changes(before: Values, after: Values) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        was, now = before.get(name), after.get(name)
        if was is None and now:
            yield Change("new", name, None, now.value or None, now.source)
        elif now is None and was:
            yield Change("gone", name, was.value or None)
        elif was and now and was.value != now.value:
            yield Change("changed", name, was.value, now.value, now.source)


def _env(tree: Tree) -> Values:
    return shipped.taken(tree, shipped.environment(tree))


def _built(tree: Tree) -> Values:
    return shipped.taken(tree, shipped.build_environment(tree))


def _replaced(tree: Tree) -> Mapping[str, Cited]:
    return {one.package: Cited(one.version, one.source) for one in shipped.snapshots(tree)}


def _required(tree: Tree) -> Mapping[str, Cited]:
    """The requirements that the section of the pins does not have."""
    found = shipped.requirements(tree)
    return {name: one for name, one in found.items() if name not in (*NAMED, *PINNED)}
