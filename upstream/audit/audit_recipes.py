"""Audit recipes against the servers that upstream's documents and tests start.

The importer reads the scripts, so the code that plans the recipe does not check itself.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clusters.importing import external_dp, servers, sources
from clusters.importing.servers import Server
from common import yaml as reading
from common.errors import UserError
from docs.render.recipes import unknown_names
from entrypoints.findings import Refused
from entrypoints.inputs import catalogue, data, recipes, stack
from entrypoints.inputs.arguments import Flag, from_value
from entrypoints.inputs.recipes import Block, Recipe
from entrypoints.inputs.stack import Release
from upstream.audit.audit_result import (
    AuditResult,
    confirmed,
    contradicted,
    found,
    unchecked,
)
from upstream.audit.citations import Library, Place, places

SIZES = {
    "tp": "--tensor-parallel-size",
    "pp": "--pipeline-parallel-size",
    "dp": "--data-parallel-size",
    "pcp": "--prefill-context-parallel-size",
}
OF_A_NODE = ("data-parallel-start-rank",)  # a document has the rank of each node
TRANSFER = ("kv_connector", "kv_port", "engine_id")
# Since v0.13.0 vLLM treats the first as the second (vllm/config/speculative.py).
SAME = {"deepseek_mtp": "mtp"}
MOST = 1 / 8  # the share of a recipe's settings that may differ in another release
PLACEHOLDER = re.compile(r"<.*>|\$.*|your[_ -].*", re.IGNORECASE)
READ = r"(docs/source/(?!locale).*\.md|tests/e2e/.*\.ya?ml)"


@dataclass(frozen=True)
class Setting:
    """A setting of a recipe. `flag`: the server's flag; empty for a variable and a KV transfer."""

    key: str
    name: str
    value: Any
    flag: str = ""


@dataclass
class Documents:
    """The servers of upstream's documents; each document is read once."""

    library: Library
    read: dict[tuple[str, str], tuple[Server, ...]] = field(default_factory=dict)

    def servers(self, version: str, path: str) -> tuple[Server, ...]:
        """The servers that a document of vllm-ascend starts; none if it cannot be read."""
        if (version, path) not in self.read:
            self.read[version, path] = tuple(self._servers(version, path))
        return self.read[version, path]

    def _servers(self, version: str, path: str) -> Iterator[Server]:
        tree = self.library.of("vllm-ascend").get(version)
        release = stack.release(f"v{version}", [])
        if tree is None or release is None or path not in tree.files:
            return
        known = catalogue.load(release)
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            copy = Path(folder) / Path(path).name
            copy.write_text(tree.files[path], encoding="utf-8")
            try:
                read = sources.read([str(copy)], {})
            except UserError:  # not the kind of document that starts a server
                return
            for source in read:
                scripts, _ = external_dp.expand(source.scripts, source.apart)
                yield from (servers.read(one, known) for one in scripts if one.kind == "server")

    def named(self, version: str, names: Collection[str] = ()) -> list[tuple[Server, str]]:
        """(server, citation) of the documents with these file names; of all without names."""
        tree = self.library.of("vllm-ascend")[version]
        return [
            (server, tree.cite(path, server.script.line))
            for path in tree.matching(READ)
            if not names or path.rpartition("/")[2] in names
            for server in self.servers(version, path)
        ]


def audit(root: Path, library: Library) -> Iterator[AuditResult]:
    """Audit the values of every recipe below `root`, and the releases that it lists."""
    documents = Documents(library)
    folder = root / "env" / "recipes"
    for path in sorted(folder.rglob("*.yaml")):
        file = str(path.relative_to(root))
        try:
            recipe = recipes.load(str(path))
        except Refused as refused:
            for one in refused.findings:
                where = one.where.removeprefix(f"{path}: ") or "recipe"
                yield contradicted(file, where, None, "", one.message)
            continue
        for finding in unknown_names(path, recipe):
            yield contradicted(file, finding.where, None, "", f"{finding.message}; {finding.fix}")
        raw = reading.document(path)
        for release in recipe.releases:
            if release in data.names("releases"):
                for result in _release(file, recipe, release, documents):
                    yield replace(result, key=_key_in(raw, result.key))


def _key_in(raw: Mapping[str, Any], key: str) -> str:
    """The key at which the file sets `KEY (GROUP, RELEASE)`; the most specific one counts."""
    plain, _, rest = key.partition(" (")
    group, _, release = rest.removesuffix(")").partition(", ")
    before = f"by_release.{release}"
    for parent in (f"{before}.roles.{group}", before, f"roles.{group}", ""):
        whole = f"{parent}.{plain}" if parent else plain
        if _has(raw, whole):
            return f"{whole} ({rest}"
    return key


def _has(raw: Any, key: str) -> bool:
    if not key:
        return True
    names = [n for n in raw if f"{key}.".startswith(f"{n}.")] if isinstance(raw, Mapping) else []
    return any(_has(raw[name], key.removeprefix(name).removeprefix(".")) for name in names)


def _release(
    file: str, recipe: Recipe, release: str, documents: Documents
) -> Iterator[AuditResult]:
    stated = recipe.on(release)
    cited = [place for source in stated.sources.values() for place in _places(source)]
    version = release.removeprefix("v")
    if version not in documents.library.of("vllm-ascend"):
        return
    of_it = [place for place in cited if place.first == version]
    given = [
        server
        for place in of_it or cited
        for server in documents.servers(place.first, place.path)
        if any(first == server.script.line for first, _ in place.lines)
    ]
    names = {place.path.rpartition("/")[2] for place in cited}
    own = [] if of_it else documents.named(version, names) or documents.named(version)
    place = ", ".join(dict.fromkeys(stated.sources.values()))
    yield from _model(file, stated, release, documents)
    facts = stack.release(release, [])
    for group, block in stated.groups.items():
        every = (*_settings(block), *_features(block, facts), *_served(stated))
        settings = [one for one in every if not _has_source(one, group, stated)]
        if given:
            yield from _values(file, release, group, settings, given, place)
        # A later release may choose a feature by itself, or have it by default.
        kept = [one for one in settings if not one.key.startswith("features.")]
        if kept and not of_it:
            yield _claim(file, recipe, release, group, kept, own)


def _model(file: str, recipe: Recipe, release: str, documents: Documents) -> Iterator[AuditResult]:
    """Whether any file of the release names the model."""
    name = recipe.model.rpartition("/")[2]
    tree = documents.library.of("vllm-ascend")[release.removeprefix("v")]
    if name and "model" not in recipe.sources:
        text = rf"(?i){re.escape(name)}"
        place = next(filter(None, (tree.locate(one, text) for one in tree.matching(READ))), None)
        why = "no document and no test names it"
        yield found(file, f"model (all, {release})", recipe.model, place, str(tree), why)


def _served(recipe: Recipe) -> Iterator[Setting]:
    if recipe.served_model_name:
        value = recipe.served_model_name[0]
        yield Setting("served_model_name", "served_model_name", value, "--served-model-name")


def _features(block: Block, release: Release | None) -> Iterator[Setting]:
    """The features as the release has them: a variable, a flag, or a key of a JSON flag."""
    for name, value in block.features.items():
        form = release.features.get(name) if release else None
        if form is None or form.missing or isinstance(value, Mapping) or not value:
            continue
        key = f"features.{name}"
        if form.env:
            yield Setting(key, form.env, str(int(value)))
        elif "." not in form.arg:
            yield Setting(key, name, from_value(form.arg, value), f"--{form.arg}")


def _places(source: str) -> Iterator[Place]:
    for segment in source.split("; "):
        yield from (place for place in places(segment) if place.package == "vllm-ascend")


def _values(
    file: str,
    release: str,
    group: str,
    settings: list[Setting],
    given: list[Server],
    place: str,
) -> Iterator[AuditResult]:
    """Compare the settings with the cited server that shares the most of them."""
    best = max(given, key=lambda server: sum(_stated(one, server) for one in settings))
    for one in settings:
        key = f"{one.key} ({group}, {release})"
        if _stated(one, best):
            yield confirmed(file, key, one.value, place)
        else:
            yield contradicted(file, key, one.value, place, _there(one, best))


def _claim(
    file: str,
    recipe: Recipe,
    release: str,
    group: str,
    settings: list[Setting],
    own: list[tuple[Server, str]],
) -> AuditResult:
    """Audit a release that no source covers: whether its documents state the settings."""
    key = f"releases ({group}, {release})"
    if not own:
        why = "its documents of these names start no server"
        return contradicted(file, key, release, f"vllm-ascend {release}", why)
    best, place = max(own, key=lambda one: sum(_stated(setting, one[0]) for setting in settings))
    missing = [one for one in settings if not _stated(one, best)]
    if len(missing) > max(1, MOST * len(settings)):
        why = "the nearest server there differs: " + ", ".join(
            f"{one.key} {_there(one, best)}" for one in missing[:6]
        )
        return contradicted(file, key, release, place, why)
    if missing:
        why = f"{missing[0].key} {_there(missing[0], best)}, all else agrees"
        return unchecked(file, key, release, why, place)
    return confirmed(file, key, release, place)


def _settings(block: Block) -> Iterator[Setting]:
    for name, value in block.env.items():
        if value is not None:
            yield Setting(f"env.{name}", name, value)
    for name, flag in block.args.items():
        plain = name.removeprefix("--")
        if flag is not None and plain not in OF_A_NODE:
            yield Setting(f"args.{plain}", plain, flag, f"--{plain}")
    for name, flag_name in SIZES.items():
        value = getattr(block.sizes, name)
        if value not in (None, 1):
            yield Setting(f"sizes.{name}", name, value, flag_name)
    if block.port:
        yield Setting("port", "port", block.port, "--port")
    for name in TRANSFER:
        if name in block.kv_transfer:
            yield Setting(f"kv_transfer.{name}", name, block.kv_transfer[name])


def _has_source(setting: Setting, group: str, recipe: Recipe) -> bool:
    """Whether the recipe has a separate source for this setting."""
    keys = (f"{setting.key}.", f"roles.{group}.{setting.key}.")
    return any(source and key.startswith(f"{source}.") for key in keys for source in recipe.sources)


def _stated(setting: Setting, server: Server) -> bool:
    if not setting.flag and not setting.key.startswith("kv_transfer."):
        value = server.env.get(setting.name)
        return value is not None and _boolean(value) == _boolean(setting.value)
    if setting.key.startswith("kv_transfer."):
        transfer = server.transfer
        return isinstance(transfer, Mapping) and str(transfer.get(setting.name)) == str(
            setting.value
        )
    given = server.flags.get(setting.flag)
    if not given:
        return False
    values = given[-1].values
    if not isinstance(setting.value, Flag):
        plain = str(setting.value)
        left_open = {*server.placeholders, *server.placeholders.values()}
        return bool(values) and (
            values[0] == plain
            or bool({values[0], setting.flag} & left_open)
            or bool(PLACEHOLDER.fullmatch(values[0]))
        )
    if not setting.value.values:
        return not values or values[0].lower() == "true"
    return bool(values) and _within(_plain(setting.value.values[0]), _plain(values[0]))


def _within(one: Any, other: Any) -> bool:
    """Whether `other` has the value of `one`; a mapping may have more keys."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(key in other and _within(value, other[key]) for key, value in one.items())
    if isinstance(one, str) and isinstance(other, str):
        return SAME.get(one, one) == SAME.get(other, other) or bool(PLACEHOLDER.fullmatch(other))
    return bool(one == other)


def _boolean(text: str) -> str:
    return text.lower() if text.lower() in ("true", "false") else text


def _plain(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in "{[" else text
    except ValueError:
        return text


def _there(setting: Setting, server: Server) -> str:
    if not setting.flag and not setting.key.startswith("kv_transfer."):
        value: object = server.env.get(setting.name)
    elif setting.key.startswith("kv_transfer."):
        transfer = server.transfer
        value = transfer.get(setting.name) if isinstance(transfer, Mapping) else None
    else:
        value = " ".join(_texts(server.flags.get(setting.flag, ()))) or None
    return "is not there" if value is None else f"is {value!r} there"


def _texts(flags: Iterable[Flag]) -> Iterator[str]:
    for flag in flags:
        yield from flag.values or ("set",)
