"""The effects of a new release on the recipes of the previous one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from entrypoints.inputs.recipes import Block, Recipe
from upstream.audit.citations import places
from upstream.bump.release_diff import PREFIX
from upstream.dialect import python_source
from upstream.dialect.upstream_names import ARGS, ENVS, package_trees
from upstream.sources import Sources, Tree

READS = r"vllm_ascend/.*\.py"
TESTED = r"tests/e2e/.*\.(py|ya?ml|json)"
QUANTIZED = re.compile(r"-(w\d+a\d+|int8|bf16|floatmtp|quarot|mtp).*$", re.IGNORECASE)


@dataclass(frozen=True)
class Effect:
    """`source`: the place in the new release, or the files that were searched."""

    recipe: str
    what: str
    source: str


def effects(
    recipes: Iterable[Recipe],
    previous: str,
    dialect: Mapping[str, Any],
    sources: Sources,
    earlier: Sources | None,
) -> Iterator[Effect]:
    """Yield what no longer works or is no longer tested, for the recipes of `previous`.

    `dialect`: env/releases of the new release. `earlier`: the sources of `previous`. A recipe
    without an effect can be tried in the new release.
    """
    for recipe in recipes:
        if previous in recipe.releases:
            tested = earlier is None or _tested(recipe, earlier.vllm_ascend)
            told = dict.fromkeys(
                (*_settings(recipe, dialect, sources), *_sources(recipe, sources, tested))
            )
            yield from (Effect(recipe.name, what, source) for what, source in told)


def _settings(
    recipe: Recipe, dialect: Mapping[str, Any], sources: Sources
) -> Iterator[tuple[str, str]]:
    known = _known_variables(sources, {n for block in recipe.groups.values() for n in block.env})
    for block in recipe.groups.values():
        yield from _features(block, dialect)
        yield from _variables(block, dialect, known, package_trees(sources)["vllm"])
        yield from _flags(block, dialect, sources)
        yield from _connectors(block, dialect)


def _features(block: Block, dialect: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    forms = dialect["features"]
    for name in block.features:
        form = forms.get(name, {})
        if form.get("missing"):
            yield f"the feature {name} is left out: {form['missing']}", form["source"]


def _variables(
    block: Block, dialect: Mapping[str, Any], known: Collection[str], vllm: Tree
) -> Iterator[tuple[str, str]]:
    for name in block.env:
        gone = dialect["variables_gone"].get(name)
        if gone:
            yield f"nothing reads {name}: {gone['fix']}", gone["source"]
        elif name.startswith(PREFIX) and name not in known:
            yield f"nothing reads {name} any more", vllm.cite(ENVS["vllm"])


def _known_variables(sources: Sources, names: Collection[str]) -> set[str]:
    """The variables that either package defines, and those among `names` that it reads."""
    return {
        name
        for package, tree in package_trees(sources).items()
        for name in (
            *python_source.variables(tree, ENVS[package]),
            *python_source.reads(tree, names),
        )
    }


def _flags(block: Block, dialect: Mapping[str, Any], sources: Sources) -> Iterator[tuple[str, str]]:
    vllm = package_trees(sources)["vllm"]
    known = python_source.flags(vllm)
    for name, flag in block.args.items():
        flag_name = name.removeprefix("--").partition(".")[0].replace("_", "-")
        plain = flag_name.removeprefix("no-")
        if flag_name not in known and plain not in known:
            instead = dialect["flags_gone"].get(flag_name, {}).get("instead", "")
            yield f"--{flag_name} is gone" + (f": {instead}" if instead else ""), vllm.cite(ARGS)
        if flag and flag_name == "additional-config":
            yield from _keys(flag.values, sources.vllm_ascend)


def _keys(values: Iterable[str], ascend: Tree) -> Iterator[tuple[str, str]]:
    """Keys of --additional-config that no source names."""
    for key in dict.fromkeys(re.findall(r'"([a-z]\w*)":', " ".join(values))):
        pattern = rf"\b{re.escape(key)}\b"
        if not any(ascend.locate(path, pattern) for path in ascend.matching(READS)):
            yield f"nothing reads additional-config's {key}", f"{ascend}: vllm_ascend"


def _connectors(block: Block, dialect: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = block.kv_transfer.get("kv_connector")
    groups = dialect["connectors"].values()
    if name and not any(name in group["names"] for group in groups):
        instead = dialect["connectors_gone"].get(name, {}).get("instead", "")
        source = next(iter(groups))["source"] if groups else ""
        yield f"the connector {name} is gone" + (f": use {instead}" if instead else ""), source


def _sources(recipe: Recipe, sources: Sources, tested: bool) -> Iterator[tuple[str, str]]:
    """Whether the new release still has the recipe's documents, and tests its model."""
    tree = sources.vllm_ascend
    names = {path.rpartition("/")[2] for path in tree.files}
    for source in recipe.sources.values():
        for place in places(source):
            if place.package == tree.package and place.path.rpartition("/")[2] not in names:
                yield f"its document is gone: {place.path}", str(tree)
    if tested and not _tested(recipe, tree):
        yield f"no test names {_model(recipe)} any more", tree.cite("tests/e2e")


def _tested(recipe: Recipe, tree: Tree) -> bool:
    pattern = rf"(?i)\b{re.escape(_model(recipe))}"
    return any(tree.locate(path, pattern) for path in tree.matching(TESTED))


def _model(recipe: Recipe) -> str:
    """The model's name without its organisation and its quantization."""
    return QUANTIZED.sub("", recipe.model.rpartition("/")[2])
