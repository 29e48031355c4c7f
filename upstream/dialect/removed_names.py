"""Names of earlier releases that this one lacks: connectors, flags, variables."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from packaging.version import Version

from common.paths import ENV
from upstream.dialect import python_source
from upstream.dialect.upstream_names import ARGS, ENVS, package_trees
from upstream.facts import Decision, Fact
from upstream.sources import Sources

Found = Iterator[Fact | Decision]

FACTORY = "vllm/distributed/kv_transfer/kv_connector/factory.py"
REGISTERED = r"vllm_ascend/distributed/(kv_transfer/)?__init__\.py"


def registered(sources: Sources) -> dict[str, dict[str, str]]:
    """Package → name → citation of each registration; vllm-ascend's overrides count as vLLM's."""
    vllm, ours = package_trees(sources)["vllm"], sources.vllm_ascend
    base = python_source.connectors(vllm, FACTORY)
    added: dict[str, str] = {}
    for path in ours.matching(REGISTERED):
        for name, source in python_source.connectors(ours, path).items():
            if name not in base:
                added.setdefault(name, source)
    return {"vllm": base, "vllm-ascend": added}


def connectors(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Derive the names of the connectors, and which of the previous release's are gone."""
    found = registered(sources)
    now: dict[str, str] = {}
    for package, names in found.items():
        now |= names
        key = f"connectors.{package}.names"
        if names:
            file = next(iter(names.values())).rpartition(":")[0]
            yield Fact(key, list(names), file)
        elif package_trees(sources)[package].files:
            question = (
                f"{package} no longer registers connectors in that file: which ones does it have?"
            )
            yield Decision(key, question, _names_of(previous, package))
            now |= dict.fromkeys(_names_of(previous, package), "")
    gone = dict(previous.get("connectors_gone", {}))
    for package, group in previous.get("connectors", {}).items():
        for name in group["names"]:
            gone.setdefault(name, {"package": package})
    for name, entry in sorted(gone.items()):
        if name in now:
            continue
        ours = name in _names_of(previous, "vllm-ascend") or "vllm-ascend" in entry.get(
            "source", ""
        )
        places = found["vllm-ascend"] if ours and found["vllm-ascend"] else found["vllm"]
        source = next(iter(places.values()), "").rpartition(":")[0]
        instead = entry.get("instead")
        yield Fact(f"connectors_gone.{name}.gone", True, source)
        if instead in now:
            yield Fact(f"connectors_gone.{name}.instead", instead, source)
        else:
            question = f"{name} is no longer registered: which connector replaces it?"
            yield Decision(f"connectors_gone.{name}.instead", question, instead)


def _names_of(previous: Mapping[str, Any], package: str) -> list[str]:
    return list(previous.get("connectors", {}).get(package, {}).get("names", ()))


def flags(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Derive which flags are gone: of the previous vLLM's catalogue, and of earlier releases."""
    vllm = package_trees(sources)["vllm"]
    now = python_source.flags(vllm)
    before = dict(previous.get("flags_gone", {}))
    for name in dict.fromkeys((*before, *catalogued(str(previous.get("vllm", ""))))):
        if name in now:
            continue
        key = f"flags_gone.{name}"
        source = vllm.cite(ARGS)
        yield Fact(f"{key}.gone", True, source)
        if name in before:
            yield Fact(f"{key}.instead", before[name]["instead"], source)
        else:
            yield Decision(f"{key}.instead", f"--{name} is gone: what replaces it?")


def catalogued(vllm: str) -> list[str]:
    """The flags, without dashes, in a vLLM's catalogue (env/flags)."""
    path = ENV / "flags" / f"{vllm}.json"
    if not path.is_file():
        return []
    return [name.removeprefix("--") for name in json.loads(path.read_text("utf-8"))["options"]]


def variables(
    sources: Sources, previous: Mapping[str, Any], names: Mapping[str, str], stated: Collection[str]
) -> Found:
    """Derive which variables are gone.

    `names`: variables that earlier releases of vllm-ascend defined → the last that did; only those
    of the newest count, since earlier removals are settled. `stated`: keys derived so far.
    """
    if not sources.vllm_ascend.files:
        return
    ours = sources.vllm_ascend
    before = dict(previous.get("variables_gone", {}))
    features = {
        form[key]: name
        for name, form in previous.get("features", {}).items()
        for key in ("env", "was")
        if form.get(key)
    }
    newest = max(names.values(), key=Version, default="")
    latest = [name for name, last in names.items() if last == newest]
    wanted = dict.fromkeys((*before, *features, *latest))
    defined = {
        name
        for package, tree in package_trees(sources).items()
        for name in python_source.variables(tree, ENVS[package])
    }
    read = {
        name
        for tree in package_trees(sources).values()
        for name in python_source.reads(tree, wanted)
    }
    for name in wanted:
        if name in defined or name in read:
            continue
        key, source = f"variables_gone.{name}", ours.cite(ENVS["vllm-ascend"])
        yield Fact(f"{key}.gone", True, source)
        entry = before.get(name)
        if entry:
            yield Fact(f"{key}.since", entry["since"], source)
            yield Fact(f"{key}.fix", entry["fix"], source)
            continue
        yield Fact(f"{key}.since", sources.release, source)
        if f"features.{features.get(name)}.arg" in stated:
            yield Fact(f"{key}.fix", f"write the feature {features[name]}", source)
        elif name in features:  # a decision about the feature exists
            yield Fact(f"{key}.fix", f"remove it: the feature {features[name]} is gone", source)
        else:
            question = f"nothing reads {name} any more: what should an operator who sets it do?"
            yield Decision(f"{key}.fix", question, "remove it")
