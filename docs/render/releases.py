"""The release pages: differences in pins, features, connectors, flags and variables."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from common.yaml import document
from docs.render.compatibility import in_order
from docs.render.markdown import Page, page
from entrypoints.inputs import data, keys, stack
from entrypoints.inputs.stack import Feature
from images.matrix import Matrix, Release

# Fields of stack.Release → their descriptions, without names, features and connectors.
FACTS = document(Path(__file__).with_name("releases.yaml"))


@dataclass(frozen=True)
class Change:
    """A difference. `before`, `after`: empty if absent. `note`: the fix or the reason."""

    name: str
    before: str = ""
    after: str = ""
    note: str = ""


@dataclass(frozen=True)
class Changes:
    """New, removed and changed entries, each sorted by name."""

    new: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()
    other: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.other)


def render(matrix: Matrix) -> list[Page]:
    """A page for each release but the first, and a list of them."""
    releases = in_order(matrix)
    facts = [one.facts for one in matrix.cpu.vllm_versions.values()]
    others = [name for name in dict.fromkeys(facts) if name not in matrix.releases]
    notes = [
        _release_notes(old.name, new.name, old, new) for old, new in itertools.pairwise(releases)
    ]
    notes += [_release_notes(releases[-1].name, name) for name in others]
    listed = page("releases.md", "releases.md.j2", notes=notes, releases=matrix.releases)
    pages = [
        page(f"releases/{one['name']}.md", "release.md.j2", note=one, releases=matrix.releases)
        for one in notes
    ]
    return [listed, *pages]


def _release_notes(
    before: str, after: str, old: Release | None = None, new: Release | None = None
) -> dict[str, Any]:
    """The differences between a release and the previous one, by their names in the template."""
    facts, were = release_facts(after), release_facts(before)

    def instead(gone: Mapping[str, Mapping[str, str]], dashes: str = "") -> dict[str, str]:
        return {f"{dashes}{name}": f"instead: {how['instead']}" for name, how in gone.items()}

    return {
        "name": after,
        "before": before,
        "pins": _pins(old, new) if old and new else (),
        "packages": _packages(old, new) if old and new else {},
        "facts": tuple(_changed_facts(were._asdict(), facts._asdict())),
        "features": changes(_forms(were.features), _forms(facts.features)),
        "connectors": changes(
            dict.fromkeys(were.connectors, ""),
            dict.fromkeys(facts.connectors, ""),
            instead(facts.connectors_gone),
        ),
        "flags": changes(
            _defaults(were.vllm), _defaults(facts.vllm), instead(facts.flags_gone, "--")
        ),
        "variables": _variables(before, after, facts.variables_gone),
        "config_keys": _config_keys(before, facts),
        "issues": data.read(data.path_of("known_issues.yaml"))["releases"].get(after, ()),
        "vllm": (were.vllm, facts.vllm),
    }


def _keys(release: str) -> dict[str, str]:
    """Key of --additional-config → its default."""
    entries = keys.load(release)["additional_config"].items()
    return {
        name: json.dumps(one["default"]) if "default" in one else ""
        for name, one in entries
        if name
    }


def _config_keys(before: str, release: stack.Release) -> Changes:
    """The changes of --additional-config; none for a vLLM without vllm-ascend, which reads none."""
    were, now = _keys(before), _keys(release.facts)
    gone = {key: keys.advice(key, release).fix for key in were.keys() - now.keys()}
    return changes(were, now, gone) if now else Changes()


def changes(
    before: Mapping[str, str], after: Mapping[str, str], notes: Mapping[str, str] | None = None
) -> Changes:
    """Compare two mappings; `notes`: for removed entries."""
    notes = notes or {}
    return Changes(
        new=tuple(Change(name, after=after[name]) for name in sorted(after.keys() - before.keys())),
        gone=tuple(
            Change(name, before=before[name], note=notes.get(name, ""))
            for name in sorted(before.keys() - after.keys())
        ),
        other=tuple(
            Change(name, before[name], after[name])
            for name in sorted(after.keys() & before.keys())
            if before[name] != after[name]
        ),
    )


def _packages(before: Release, after: Release) -> dict[str, Changes]:
    found = {"Python packages": changes(_named(before.requirements), _named(after.requirements))}
    for packager, names in after.os_packages.items():
        were = dict.fromkeys(before.os_packages.get(packager, ()), "")
        found[f"packages of {packager}"] = changes(were, dict.fromkeys(names, ""))
    return {name: one for name, one in found.items() if one}


def _pins(before: Release, after: Release) -> tuple[Change, ...]:
    drivers = data.read(data.path_of("preflight.yaml"))["driver"]["releases"]

    def of(release: Release) -> dict[str, str]:
        return {
            "platforms": ", ".join(release.platforms),
            "python": release.python,
            "driver (HDK) from": str(drivers.get(release.name, {}).get("version", "not named")),
            **release.pins,
            "mooncake": f"{release.mooncake.version} ({release.mooncake.origin})",
        }

    old, new = of(before), of(after)
    return tuple(Change(name, old[name], new[name]) for name in new if old[name] != new[name])


def _named(requirements: Iterable[str]) -> dict[str, str]:
    found = (Requirement(text) for text in requirements)
    return {one.name: str(one.specifier) for one in found}


def _changed_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[Change]:
    for name, words in FACTS.items():
        before, after = _plain(old[name]), _plain(new[name])
        if before != after:
            fact = new[name]
            own = isinstance(fact, Mapping)
            source = fact.get("source", "") if own else getattr(fact, "source", "")
            yield Change(words, before, after, source)


def _plain(value: Any) -> str:
    """A fact as text, without its source."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping) and "source" in value:
        rest = {key: one for key, one in value.items() if key != "source"}
        value = next(iter(rest.values())) if len(rest) == 1 else rest
    if isinstance(value, Mapping):
        if all(isinstance(one, str) and " " in one for one in value.values()):
            return ", ".join(value)
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_plain, value))
    return str(value)


def _forms(features: Mapping[str, Feature]) -> dict[str, str]:
    """Feature → its form and default; missing features are left out."""
    return {
        name: (form.env or f"--{form.arg}")
        + ("" if form.default is None else f", default {form.default}")
        for name, form in features.items()
        if not form.missing
    }


def _default(entry: Mapping[str, Any]) -> str:
    """The default and the choices of a flag."""
    words = []
    if "default" in entry:
        words.append(f"default {entry['default']!r}")
    if "choices" in entry:
        words.append(f"one of {', '.join(map(str, entry['choices']))}")
    return "; ".join(words)


def _variables(
    before: str, after: str, gone: Mapping[str, Mapping[str, str]]
) -> dict[str, Changes]:
    old, new = (data.read(data.path_of("variables", f"{name}.json")) for name in (before, after))
    notes = {name: how["fix"] for name, how in gone.items()}
    ascend = [
        {name: f"default {value}" if value is not None else "" for name, value in of.items()}
        for of in (old["vllm_ascend"], new["vllm_ascend"])
    ]
    vllm = [dict.fromkeys(of["vllm"], "") for of in (old, new)]
    found = {
        "vllm-ascend": changes(ascend[0], ascend[1], notes),
        "vLLM": changes(vllm[0], vllm[1], notes),
    }
    return {name: one for name, one in found.items() if one}


def _defaults(vllm: str) -> dict[str, str]:
    options = data.read(data.path_of("flags", f"{vllm}.json"))["options"]
    return {name: _default(entry) for name, entry in options.items()}


def release_facts(name: str | None) -> stack.Release:
    """The facts of a release, or of the default one."""
    found = stack.release(name, [])
    assert found is not None
    return found
