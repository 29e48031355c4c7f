"""The form of each feature in a release: a flag, a key of additional_config, or a variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from upstream.dialect import python_source
from upstream.dialect.upstream_names import (
    ARGS,
    CONFIG,
    ENVS,
    package_trees,
    upstream_names,
    vllm_only,
)
from upstream.facts import Decision, Fact
from upstream.sources import Sources

Found = Iterator[Fact | Decision]


def features(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Derive the form of every feature that is known by name or that the previous release had."""
    before = previous.get("features", {})
    for name in dict.fromkeys((*upstream_names()["features"], *before)):
        words = before.get(name, {})
        own = upstream_names()["features"].get(name, [])
        names = [*own, *(one for one in _names(words) if not own or one.get("key"))]
        facts = next(filter(None, (_form(sources, name, one) for one in names)), None)
        if facts is None:
            yield from _missing(sources, name, own or names, words)
            continue
        yield from facts
        there = {fact.key: fact.value for fact in facts}
        if f"features.{name}.arg" in there:
            yield from _replaced_variable(sources, name, words, there)


def _replaced_variable(
    sources: Sources, name: str, words: Mapping[str, Any], there: Mapping[str, Any]
) -> Found:
    """The values and default of a removed variable: from the configuration's field, or asked."""
    word = str(there[f"features.{name}.arg"]).rpartition(".")[2]
    field = python_source.config_fields(sources.vllm_ascend, CONFIG).get(word)
    found = {
        "values": list(field.values) if field else None,
        "default": int(field.default or 0) if field else None,
    }
    for part, value in found.items():
        key = f"features.{name}.{part}"
        if part not in words or key in there:
            continue
        if field and value not in (None, []):
            yield Fact(key, value, field.source)
        else:
            question = f"its variable is gone: is {words[part]} still the {part} of {name}?"
            yield Decision(key, question, words[part])


def _names(form: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The previous release's form of a feature, as in upstream_names.yaml."""
    if form.get("was") or form.get("env"):
        yield {"variable": form.get("was") or form["env"]}
    if form.get("arg"):
        flag, _, key = form["arg"].partition(".")
        yield {"flag": flag, "key": key, "add": form.get("add"), "keys": form.get("keys")}


def _form(sources: Sources, name: str, one: Mapping[str, Any]) -> tuple[Fact, ...] | None:
    """The facts if this release has the feature under that name, else None."""
    made = _flag if "flag" in one else _variable if "variable" in one else _fixed
    return made(sources, f"features.{name}", one)


def _flag(sources: Sources, at: str, one: Mapping[str, Any]) -> tuple[Fact, ...] | None:
    vllm = package_trees(sources)["vllm"]
    source = python_source.flags(vllm).get(one["flag"])
    if source is None:
        return None
    arg, key = one["flag"], one.get("key")
    if key:
        arg = f"{arg}.{key}"
        path, word = (one["read"], key) if one.get("read") else (CONFIG, key.rpartition(".")[2])
        tree = package_trees(sources)["vllm" if one.get("read") else "vllm-ascend"]
        source = tree.locate(path, rf"[\"'.]{word}\b")
        if source is None:
            return None
    more = {part: one[part] for part in ("add", "keys") if one.get(part)}
    return (
        Fact(f"{at}.arg", arg, source),
        *(Fact(f"{at}.{part}", value, source) for part, value in more.items()),
    )


def _variable(sources: Sources, at: str, one: Mapping[str, Any]) -> tuple[Fact, ...] | None:
    package = one.get("of", "vllm-ascend")
    variable = python_source.variables(package_trees(sources)[package], ENVS[package]).get(
        one["variable"]
    )
    if variable is None:
        return None
    replaced = python_source.config_keys(sources.vllm_ascend, CONFIG).get(variable.name)
    facts = [Fact(f"{at}.env", variable.name, variable.source)]
    if replaced:
        key, source = replaced
        facts = [
            Fact(f"{at}.arg", f"additional-config.{key}", source),
            Fact(f"{at}.was", variable.name, source),
        ]
    if variable.values:
        facts.append(Fact(f"{at}.values", list(variable.values), variable.source))
    if variable.default is not None and variable.default.isdigit():
        facts.append(Fact(f"{at}.default", int(variable.default), variable.source))
    return tuple(facts)


def _fixed(sources: Sources, at: str, one: Mapping[str, Any]) -> tuple[Fact, ...] | None:
    vllm = package_trees(sources)["vllm"]
    place = vllm.locate(one["read"], one["pattern"])
    if place is None:
        return None
    return (Fact(f"{at}.missing", one["missing"].format(version=vllm.version), place),)


def _missing(
    sources: Sources, name: str, names: list[Mapping[str, Any]], words: Mapping[str, Any]
) -> Found:
    """That it is missing is a fact; why, and what replaces it, is for a person to decide."""
    at = f"features.{name}"
    named = [one for one in names if "missing" not in one]
    last = named[-1] if named else {}
    package = "vllm" if "flag" in last else last.get("of", "vllm-ascend")
    if vllm_only(sources) and package == "vllm-ascend":
        source = package_trees(sources)["vllm"].cite("vllm/config")
        yield Fact(f"{at}.missing", "only vllm-ascend has it", source)
        return
    tree = package_trees(sources)[package]
    source = tree.cite(ARGS if "flag" in last else ENVS[package])
    if "flag" in last and not last.get("key"):
        reason = f"vLLM {tree.version} has no --{last['flag']}"
        yield Fact(f"{at}.missing", reason, source)
        return
    if words.get("missing"):
        yield Fact(f"{at}.missing", words["missing"], source)
        return
    what = last.get("variable") or last.get("flag", name)
    reason = f"{tree} has no {what}"
    yield Fact(f"{at}.missing", reason, source)
    question = f"{reason}: does the feature have another form, or does another feature cover it?"
    yield Decision(at, question, reason)
