"""The differences between two releases: pins, OS packages, flags, variables and features."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from common.paths import ENV
from common.yaml import document
from upstream.bump.pins_file import Pins

# How similar two names must be to count as renamed (difflib's ratio).
SIMILARITY = 0.8
# Only variables of vLLM and vllm-ascend: others that vLLM reads are not its options.
PREFIX = "VLLM_"


@dataclass(frozen=True)
class Change:
    """`how`: new, gone, renamed, changed (a default or a version)."""

    how: str
    name: str
    before: Any = None
    after: Any = None
    source: str = ""


@dataclass(frozen=True)
class Section:
    """`table`: show each change with its values and its source, not just the names."""

    title: str
    changes: tuple[Change, ...]
    table: bool = False


def compare(
    before: Pins,
    after: Pins,
    names: tuple[str, str],
    vllms: tuple[str, str],
    env: Path = ENV,
    dialect: Mapping[str, Any] | None = None,
) -> list[Section]:
    """The sections of the comparison; skips a section if one of its files is missing.

    `dialect`: the new env/releases, if its file is not written.
    """
    sections = [
        Section("pins", tuple(pins(before, after)), table=True),
        Section("packages of the OS", tuple(os_packages(before, after))),
    ]
    old, new = (_json(env / "flags" / f"{vllm}.json") for vllm in vllms)
    if old and new:
        found = named(old["options"], new["options"], _same_flag)
        sections.append(Section("flags of vllm serve", tuple(found)))
    old, new = (_json(env / "variables" / f"{name}.json") for name in names)
    if old and new:
        found = named(_variables(old), _variables(new))
        sections.append(Section("environment variables", tuple(found)))
    old, new = (_yaml(env / "releases" / f"{name}.yaml") for name in names)
    new = dict(dialect) if dialect else new
    if old and new:
        found = features(old.get("features", {}), new.get("features", {}))
        sections.append(Section("features", tuple(found)))
    return sections


def pins(before: Pins, after: Pins) -> Iterator[Change]:
    """Compare pins; each requirement and compiled package counts as one."""
    old, new = _flat(before), _flat(after)
    for key in dict.fromkeys((*old, *new)):
        (was, _), (now, source) = old.get(key, (None, "")), new.get(key, (None, ""))
        if was != now:
            how = "new" if was is None else "gone" if now is None else "changed"
            yield Change(how, key, was, now, source)


def os_packages(before: Pins, after: Pins) -> Iterator[Change]:
    for key in dict.fromkeys((*before, *after)):
        if not key.startswith("os_packages."):
            continue
        packager = key.partition(".")[2]
        old = before[key].value if key in before else []
        new = after[key].value if key in after else []
        for name in new:
            if name not in old:
                yield Change("new", f"{packager}: {name}", source=after[key].note)
        for name in old:
            if name not in new:
                yield Change("gone", f"{packager}: {name}")


def named(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    may_rename: Callable[[Any, Any], bool] | None = None,
) -> Iterator[Change]:
    """Compare options or variables: new, gone, renamed, or with another default.

    `may_rename`: whether an old entry may be the same as a new one with another name.
    """
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    renamed: dict[str, str] = {}
    for name in gone:
        near = difflib.get_close_matches(name, new, n=3, cutoff=SIMILARITY)
        for other in [*(n for n in new if name in _aliases(after[n])), *near]:
            if (
                may_rename
                and may_rename(before[name], after[other])
                and other not in renamed.values()
            ):
                renamed[name] = other
                break
    for name in new:
        if name not in renamed.values():
            yield Change("new", name, after=_default(after[name]))
    for name in gone:
        if name in renamed:
            yield Change("renamed", name, name, renamed[name])
        else:
            yield Change("gone", name)
    for name in before:
        if name in after and _default(before[name]) != _default(after[name]):
            yield Change("changed", name, _default(before[name]), _default(after[name]))


def features(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Compare features: new, gone, or with another form."""
    for name in dict.fromkeys((*before, *after)):
        was, now = _form(before.get(name)), _form(after.get(name))
        if was != now:
            source = (after.get(name) or {}).get("source", "")
            how = "gone" if now is None else "new" if was is None else "changed"
            yield Change(how, name, was, now, source)


def _flat(entry: Pins) -> dict[str, tuple[Any, str]]:
    """Pin → (value, comment), without OS packages, which have their own section."""
    flat: dict[str, tuple[Any, str]] = {}
    for key, line in entry.items():
        if key == "requirements":
            for one in map(Requirement, line.value):
                flat[one.name] = (str(one.specifier) or "any", line.note)
        elif isinstance(line.value, dict):
            for child, value in line.value.items():
                flat[f"{key} {child}"] = (str(value), line.note)
        elif isinstance(line.value, list) and not key.startswith("os_packages."):
            flat[key] = (", ".join(map(str, line.value)), line.note)
        elif not key.startswith("os_packages."):
            flat[key] = (str(line.value), line.note)
    return flat


def _variables(document: Mapping[str, Any]) -> dict[str, Any]:
    """Variables that an operator may set → their entries."""
    plain: dict[str, Any] = {name: {} for name in document["vllm"] if name.startswith(PREFIX)}
    return {**plain, **{n: {"default": d} for n, d in document["vllm_ascend"].items()}}


def _form(feature: Mapping[str, Any] | None) -> str | None:
    """The form of a feature, for people; None if the release lacks it."""
    if not feature or feature.get("missing"):
        return None
    for key, words in (("env", "{}"), ("arg", "--{}"), ("was", "{}")):
        if feature.get(key):
            text = words.format(feature[key])
            return f"{text} (default {feature['default']})" if "default" in feature else text
    return "always on" if feature.get("always") else "as the file says"


def _aliases(option: Any) -> Iterable[str]:
    return option.get("aliases", ()) if isinstance(option, dict) else ()


def _default(option: Any) -> Any:
    return option.get("default") if isinstance(option, dict) else option


def _same_flag(one: Any, other: Any) -> bool:
    return bool(one.get("type") == other.get("type"))


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _yaml(path: Path) -> dict[str, Any]:
    return dict(document(path)) if path.is_file() else {}
