"""Names of earlier releases that this one does not know: connectors, flags, variables."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from packaging.version import Version

from common.paths import ENV
from upstream.dialect import python
from upstream.dialect.known import ARGS, ENVS, known, trees
from upstream.model import Decision, Fact
from upstream.sources import Sources

Found = Iterator[Fact | Decision]

FACTORY = "vllm/distributed/kv_transfer/kv_connector/factory.py"
REGISTERED = r"vllm_ascend/distributed/(kv_transfer/)?__init__\.py"


def registered(sources: Sources) -> dict[str, dict[str, str]]:
    """Package -> names that it registers -> their places; vllm-ascend's overrides are vLLM's."""
    vllm, ours = trees(sources)["vllm"], sources.vllm_ascend
    base = python.connectors(vllm, FACTORY)
    added: dict[str, str] = {}
    for path in ours.matching(REGISTERED):
        for name, source in python.connectors(ours, path).items():
            if name not in base:
                added.setdefault(name, source)
    return {"vllm": base, "vllm-ascend": added}


def connectors(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Which names there are, and which of the previous release's there are no more."""
    found = registered(sources)
    now: dict[str, str] = {}
    for package, names in found.items():
        now |= names
        key = f"connectors.{package}.names"
        if names:
            file = next(iter(names.values())).rpartition(":")[0]
            yield Fact(key, list(names), file)
        elif trees(sources)[package].files:
            question = f"{package} registers no connector where it did: which has it?"
            yield Decision(key, question, _of(previous, package))
            now |= dict.fromkeys(_of(previous, package), "")
    gone = dict(previous.get("connectors_gone", {}))
    for package, group in previous.get("connectors", {}).items():
        for name in group["names"]:
            gone.setdefault(name, {"package": package})
    for name, entry in sorted(gone.items()):
        if name in now:
            continue
        ours = name in _of(previous, "vllm-ascend") or "vllm-ascend" in entry.get("source", "")
        places = found["vllm-ascend"] if ours and found["vllm-ascend"] else found["vllm"]
        source = next(iter(places.values()), "").rpartition(":")[0]
        instead = entry.get("instead")
        yield Fact(f"connectors_gone.{name}.gone", True, source)
        if instead in now:
            yield Fact(f"connectors_gone.{name}.instead", instead, source)
        else:
            question = f"{name} is registered no more: which connector stands in its place?"
            yield Decision(f"connectors_gone.{name}.instead", question, instead)


def _of(previous: Mapping[str, Any], package: str) -> list[str]:
    return list(previous.get("connectors", {}).get(package, {}).get("names", ()))


def flags(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Flags that an earlier release had: those of the previous vLLM's catalogue, and older ones."""
    vllm = trees(sources)["vllm"]
    now = python.flags(vllm)
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
            yield Decision(f"{key}.instead", f"--{name} is gone: what says the same now?")


def catalogued(vllm: str) -> list[str]:
    """The flags of a vLLM whose catalogue is in env/flags, without dashes."""
    path = ENV / "flags" / f"{vllm}.json"
    if not path.is_file():
        return []
    return [name.removeprefix("--") for name in json.loads(path.read_text("utf-8"))["options"]]


def variables(
    sources: Sources, previous: Mapping[str, Any], names: Mapping[str, str], stated: Collection[str]
) -> Found:
    """`names`: variables that earlier releases of vllm-ascend defined -> the last that did.
    `stated`: the keys of what is derived of this release.

    Of these, those that the newest had: what went before was decided then.
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
        for package, tree in trees(sources).items()
        for name in python.variables(tree, ENVS[package])
    }
    read = {name for tree in trees(sources).values() for name in python.reads(tree, wanted)}
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
        elif name in features:  # which is asked for by itself
            yield Fact(f"{key}.fix", f"take it out: the feature {features[name]} is gone", source)
        else:
            question = f"nothing reads {name} any more: what is an operator who sets it to do?"
            yield Decision(f"{key}.fix", question, "take it out")


def extra_config(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Keys of kv_connector_extra_config that nothing of this release reads."""
    for name, words in known()["kv_extra_config"].items():
        pattern = rf"get_from_extra_config\(\s*['\"]{name}['\"]"
        tree = sources.vllm_ascend
        paths = tree.matching(r"vllm_ascend/distributed/.*\.py")
        if tree.files and not any(next(tree.find(path, pattern), None) for path in paths):
            yield Fact(f"kv_extra_config_unread.{name}", words, words)
