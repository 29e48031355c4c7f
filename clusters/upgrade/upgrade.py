"""Upgrade a cluster file: find the changes, edit the texts, and check the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Any

from clusters.checks import load_deployment
from clusters.file import read
from clusters.file.document import dotted, parse
from clusters.file.recipe import text_as_written
from clusters.model import Cluster, Path, nearest_line
from clusters.upgrade import edit
from clusters.upgrade.settings import DEFAULT, FORM, LOST, MOVED, Change, Step
from common.errors import ERROR, EX_DATAERR, Finding, UserError, user_error
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.inputs import recipes, stack
from entrypoints.inputs.recipes import Block
from entrypoints.inputs.stack import Release

ALL = "all"
ISSUE = "known-issue"


@dataclass(frozen=True)
class Upgraded:
    """`changes`: (file, change). `files`: path → new text, the cluster file first.

    `findings`: what cluster.check says about the result.
    """

    changes: tuple[tuple[str, Change], ...]
    files: Mapping[str, str]
    findings: tuple[Finding, ...]


@dataclass
class _Text:
    """A file that is rewritten."""

    file: str
    text: str

    def apply(self, changes: Iterable[Change]) -> None:
        edits = [edit_ for change in changes for edit_ in change.edits.items()]
        for path, value in sorted(edits, key=lambda one: one[1] is None):  # removals last
            if value is None:
                self.text = edit.remove(self.text, path)
            elif not edit.has(self.text, path) or path[-1] == "kv_connector":
                self.text = edit.set_value(self.text, path, value)


def upgrade(path: str, release: str, out: str, accepted: Sequence[str]) -> Upgraded:
    """Rewrite the file and its recipe for a release. `out`: the path of the new cluster file.

    Raises UserError: 64 for an unknown release; 65 if the file or the result has errors, or if a
    setting has no replacement and is not accepted.
    """
    cluster = read.load(path)
    step = Step(_release(cluster.release, "release"), _release(release, "--to"))
    text = FilePath(path).read_bytes().decode("utf-8-sig")
    main = _Text(path, text)
    raw = parse(path, text, lambda _: False).value
    changes = [(path, one) for one in _cluster_changes(step, raw)]
    files = {}
    named = raw.get("recipe")
    if isinstance(named, str) and named.endswith((".yaml", ".yml")):
        own = _recipe_file(step, FilePath(path).parent / named)
        changes += own.changes
        renamed = str(FilePath(named).with_name(f"{FilePath(named).stem}-{step.new.name}.yaml"))
        files[str(FilePath(out).parent / renamed)] = next(iter(own.files.values()))
        change = Change(MOVED, "recipe", f"the recipe for {step.new.name}", "", ("recipe",))
        changes.append((path, replace(change, edits={})))
        main.text = edit.set_value(main.text, ("recipe",), renamed)
    elif named is not None:
        inner = list(_library_changes(step, named))
        changes += [(f"recipe {_library_name(named)}", one) for one in inner]
        main.text = _overlaid(main.text, named, inner)
    main.apply(one for file, one in changes if file == path)
    main.text = edit.set_value(main.text, ("release",), step.new.name)
    main.text = _retagged(main.text, step)
    changes += [(path, one) for one in (*_defaults(step, cluster), *step.driver())]
    _refuse_lost(changes, accepted)
    return _checked(main.text, out, files, changes)


def _release(name: str, option: str) -> Release:
    found: list[LaunchFinding] = []
    release = stack.release(name, found)
    if release is None:
        raise user_error(option, found[0].message, found[0].fix)
    return release


def _cluster_changes(step: Step, raw: Mapping[str, Any]) -> Iterator[Change]:
    """The changes of the file's own settings, its instances and an inline recipe."""
    yield from step.changes(raw, ())
    for name, instance in raw["instances"].items():
        if isinstance(instance, Mapping):
            at: Path = ("instances", name)
            yield from step.changes(instance, at)
            for node, one in (instance.get("overrides") or {}).items():
                yield from step.changes(one, (*at, "overrides", node))
    if isinstance(raw.get("recipe"), Mapping):
        yield from _recipe_changes(step, raw["recipe"], ("recipe",))


def _recipe_changes(step: Step, raw: Mapping[str, Any], at: Path) -> Iterator[Change]:
    """The changes of a recipe, its roles, and an inline recipe under its `extends`."""
    yield from step.changes(raw, at)
    for role, block in (raw.get("roles") or {}).items():
        if isinstance(block, Mapping):
            yield from step.changes(block, (*at, "roles", role))
    if isinstance(raw.get("extends"), Mapping):
        yield from _recipe_changes(step, raw["extends"], (*at, "extends"))


def _recipe_file(step: Step, path: FilePath) -> Upgraded:
    text = path.read_bytes().decode("utf-8-sig")
    raw = parse(str(path), text, text_as_written).value
    found = tuple(_recipe_changes(step, raw, ()))
    made = _Text(str(path), text)
    made.apply(found)
    return Upgraded(tuple((str(path), one) for one in found), {str(path): made.text}, ())


# ---- a recipe of the library ---------------------------------------------------------------------


def _library_name(named: Any) -> str:
    """The name of the library's recipe under an inline one; empty without one."""
    while isinstance(named, Mapping):
        named = named.get("extends", "")
    return str(named)


def _library_changes(step: Step, named: Any) -> Iterator[Change]:
    """The changes over a recipe of the library that does not cover the release.

    A change that all roles need is made once, for the whole recipe.
    """
    name = _library_name(named)
    if not name:
        return
    recipe = recipes.load(name)
    groups = recipe.on(step.old.facts).groups
    by_role = {
        role: list(step.changes(_raw(block), ("roles", role))) for role, block in groups.items()
    }
    shared = [
        one
        for one in next(iter(by_role.values()))
        if all(any(_same(one, other) for other in found) for found in by_role.values())
    ]
    every = [_hoisted(one) for one in shared]
    for found in by_role.values():
        every += [one for one in found if not any(_same(one, other) for other in shared)]
    if step.new.facts in recipe.releases:
        source = recipe.sources.get(f"by_release.{step.new.facts}") or recipe.sources.get("", "")
        what = f"it is stated for {step.new.name}, with its values there"
        yield Change(DEFAULT, name, what, source)
        every = [one for one in every if one.kind == FORM]
    yield from every


def _raw(block: Block) -> dict[str, Any]:
    """A block as written in a recipe."""
    args = {flag.name.removeprefix("--"): _value(flag.values) for flag in block.flags()}
    return {
        "features": dict(block.features),
        "env": dict(block.env),
        "args": args,
        "kv_transfer": dict(block.kv_transfer),
    }


def _value(values: Sequence[str]) -> Any:
    if not values:
        return True
    if len(values) > 1:
        return list(values)
    made = parse("", values[0], lambda _: False).value if values[0].startswith(("{", "[")) else None
    return values[0] if made is None else made


def _same(one: Change, other: Change) -> bool:
    return _hoisted(one) == _hoisted(other)


def _hoisted(change: Change) -> Change:
    """The change at the top of a recipe instead of at a role."""
    edits = {path[2:]: value for path, value in change.edits.items()}
    return replace(change, path=change.path[2:], edits=edits)


def _overlaid(text: str, named: Any, changes: Sequence[Change]) -> str:
    """Write the changes into the cluster file, over its recipe. A removed value becomes null."""
    edits = {path: value for one in changes for path, value in one.edits.items()}
    if not edits:
        return text
    if not isinstance(named, Mapping):
        text = edit.set_value(text, ("recipe",), {"extends": named})
    for path, value in edits.items():
        if not edit.has(text, ("recipe", *path)):
            text = edit.set_value(text, ("recipe", *path), value)
    return text


# ---- the result ----------------------------------------------------------------------------------


def _retagged(text: str, step: Step) -> str:
    """The text with the release in the tags of complete references."""
    raw = parse("", text, lambda _: False).value.get("image")
    images = (
        {("image",): raw}
        if isinstance(raw, str)
        else {("image", name): one for name, one in (raw or {}).items()}
    )
    for path, image in images.items():
        repository, colon, tag = str(image).rpartition(":")
        if colon and tag.startswith(step.old.name) and "/" not in tag:
            new = step.new.name + tag.removeprefix(step.old.name)
            text = edit.set_value(text, path, f"{repository}:{new}")
    return text


def _defaults(step: Step, cluster: Cluster) -> Iterator[Change]:
    """The changed defaults that the deployment gets."""
    features: dict[str, Any] = dict(cluster.settings.get("features", {}))
    config: dict[str, Any] = {}
    flags: set[str] = set()
    blocks = [cluster.settings, *(one.settings for one in cluster.instances.values())]
    if cluster.recipe is not None:
        named = cluster.recipe if isinstance(cluster.recipe, str) else None
        if named:
            blocks += [_raw(one) for one in recipes.load(named).on(step.new.facts).groups.values()]
        else:
            blocks.append(cluster.recipe)  # type: ignore[arg-type]
    for block in blocks:
        features |= block.get("features") or {}
        features |= {
            n: 1 for n, form in step.old.features.items() if form.env in (block.get("env") or {})
        }
        given = (block.get("args") or {}).get("additional-config")
        config |= given if isinstance(given, Mapping) else {}
        flags |= {name.replace("_", "-") for name in block.get("args") or {}}
    return step.defaults(features, config, flags)


def _refuse_lost(changes: Iterable[tuple[str, Change]], accepted: Sequence[str]) -> None:
    lost = []
    for file, one in changes:
        if one.kind != LOST or one.name in accepted or ALL in accepted:
            continue
        at = dotted(one.path) if file.endswith((".yaml", ".yml")) else f"{file}: {dotted(one.path)}"
        what = f"{one.name} cannot be carried over: {one.what}"
        fix = f"change it, or accept that it is left out: --accept {one.name}"
        lost.append(Finding(at, what, fix, "lost", one.source, **_place(file, one.path)))
    if lost:
        raise UserError(lost, EX_DATAERR)


def _place(file: str, path: Path) -> dict[str, Any]:
    """File and line of a path; nothing for a recipe of the library."""
    if not FilePath(file).is_file():
        return {}
    document = parse(file, FilePath(file).read_bytes().decode("utf-8-sig"), lambda _: True)
    return {"file": file, "line": nearest_line(document.lines, path)}


def _checked(
    text: str, out: str, files: Mapping[str, str], changes: Sequence[tuple[str, Change]]
) -> Upgraded:
    """Check the result before it is written. Raises UserError (65) when it has errors."""
    with TemporaryDirectory(prefix="upgrade-") as scratch:
        folder = FilePath(out).parent
        for path, content in {out: text, **files}.items():
            target = FilePath(scratch) / FilePath(path).relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
        copy = str(FilePath(scratch) / FilePath(out).name)
        try:
            found = load_deployment(copy).findings
        except UserError as error:
            found = error.findings
    findings = [replace(one, file=out if one.file == copy else one.file) for one in found]
    errors = [one for one in findings if one.severity == ERROR]
    if errors:
        raise UserError(errors, EX_DATAERR)
    issues = {one.message: one for one in findings if one.code == ISSUE}
    found_issues = [(out, Change(DEFAULT, ISSUE, text, one.source)) for text, one in issues.items()]
    every: dict[tuple[Any, ...], tuple[str, Change]] = {}
    for file, one in (*changes, *found_issues):
        every.setdefault((file, one.kind, one.name, one.what, one.path), (file, one))
    return Upgraded(tuple(every.values()), {out: text, **files}, tuple(findings))
