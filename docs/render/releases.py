"""The release pages: differences in pins, features, connectors, flags and variables."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement

from docs.render.compatibility import in_order
from docs.render.markdown import Page, page
from entrypoints.inputs import data, stack
from entrypoints.inputs.stack import Feature
from images.matrix import Matrix, Release

# Fields of stack.Release → their descriptions, without names, features and connectors.
FACTS = {
    "kv_port": "default KV port",
    "adxl_ports": "ports of Mooncake's ascend transport",
    "gpu_memory_utilization": "vLLM's default of --gpu-memory-utilization",
    "kv_extra_config_unread": "keys of kv_connector_extra_config that nothing reads",
    "headless_api_servers": "largest --api-server-count of a headless node",
    "async_scheduling_refused": "where --async-scheduling is refused",
    "kv_blocks_checked": "whether prefill and decode blocks are compared with the real sizes",
    "prefill_over_nodes": "whether a prefill rank may span several nodes",
    "flashcomm1_asserted": "whether flashcomm1 asserts its requirements",
    "fused_mc2_largest_ep": "largest expert parallel size for fused_mc2",
    "dense_external_dp": "whether external data parallel is refused for a model without experts",
    "kv_engine_id_suffixed": "whether a suffix makes engine_ids unique",
    "image_env": "variables that upstream's image sets",
}


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


@dataclass(frozen=True)
class ReleaseNotes:
    """The differences between a release and the previous one."""

    name: str
    before: str
    pins: tuple[Change, ...]
    packages: Mapping[str, Changes]
    facts: tuple[Change, ...]
    features: Changes
    connectors: Changes
    flags: Changes
    variables: Mapping[str, Changes]
    vllm: tuple[str, str]


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
        page(f"releases/{one.name}.md", "release.md.j2", note=one, releases=matrix.releases)
        for one in notes
    ]
    return [listed, *pages]


def _release_notes(
    before: str, after: str, old: Release | None = None, new: Release | None = None
) -> ReleaseNotes:
    facts, were = _facts(after), _facts(before)
    gone = {f"--{name}": f"instead: {how['instead']}" for name, how in facts.flags_gone.items()}
    return ReleaseNotes(
        name=after,
        before=before,
        pins=_pins(old, new) if old and new else (),
        packages=_packages(old, new) if old and new else {},
        facts=tuple(_changed_facts(were._asdict(), facts._asdict())),
        features=changes(_forms(were.features), _forms(facts.features)),
        connectors=changes(
            dict.fromkeys(were.connectors, ""),
            dict.fromkeys(facts.connectors, ""),
            {name: f"instead: {how['instead']}" for name, how in facts.connectors_gone.items()},
        ),
        flags=changes(_defaults(were.vllm), _defaults(facts.vllm), gone),
        variables=_variables(before, after, facts.variables_gone),
        vllm=(were.vllm, facts.vllm),
    )


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
    def of(release: Release) -> dict[str, str]:
        mooncake = f"{release.mooncake.version} ({release.mooncake.origin})"
        platforms = ", ".join(release.platforms)
        driver = _driver(release.name)
        return {
            **{"platforms": platforms, "python": release.python, "driver (HDK) from": driver},
            **release.pins,
            "mooncake": mooncake,
        }

    old, new = of(before), of(after)
    return tuple(Change(name, old[name], new[name]) for name in new if old[name] != new[name])


def _driver(release: str) -> str:
    known = data.read(data.path_of("preflight.yaml"))["driver"]["releases"]
    return str(known[release]["version"]) if release in known else "not named"


def _named(requirements: Iterable[str]) -> dict[str, str]:
    found = (Requirement(text) for text in requirements)
    return {one.name: str(one.specifier) for one in found}


def _changed_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[Change]:
    for name, words in FACTS.items():
        before, after = _plain(old[name]), _plain(new[name])
        if before != after:
            source = getattr(new[name], "source", "")
            if isinstance(new[name], Mapping):
                source = new[name].get("source", "")
            yield Change(words, before, after, source)


def _plain(value: Any) -> str:
    """A fact as text, without its source."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping) and "source" in value:
        rest = {key: one for key, one in value.items() if key != "source"}
        value = next(iter(rest.values())) if len(rest) == 1 else rest
    if isinstance(value, Mapping):
        inner = all(isinstance(one, str) and " " in one for one in value.values())
        return (
            ", ".join(value) if inner else ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_plain, value))
    return str(value)


def _forms(features: Mapping[str, Feature]) -> dict[str, str]:
    """Feature → its form and default; missing features are left out."""
    found = {}
    for name, form in features.items():
        if not form.missing:
            default = "" if form.default is None else f", default {form.default}"
            found[name] = f"{form.env or '--' + form.arg}{default}"
    return found


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


def _facts(name: str) -> stack.Release:
    found = stack.release(name, [])
    assert found is not None
    return found
