"""The recipes of the library: what upstream states is what they plan, and all they claim holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from entrypoints.inputs import catalogue, data, recipes
from entrypoints.inputs.arguments import is_flag
from entrypoints.launch.model import Launch
from entrypoints.plan import draft
from entrypoints.rules.memory import need
from tests import ROOT
from tests.entrypoints import known_facts

CASES = [
    case
    for path in sorted((ROOT / "tests" / "cases").glob("recipes*.yaml"))
    for case in yaml.safe_load(path.read_text())
]
# Said of nothing that a recipe sets: what it is, and what its cases prove.
UNSTATED = ("description", "source", "extends", "releases", "served_model_name")
SOURCE = re.compile(
    r"vllm-ascend v[\d.]+(rc\d+|\.post\d+)?: (docs|tests)/\S+\.(md|yaml):\d+(,\d+)*"
)
# Warnings that say that a recipe does not fit where it claims to.
UNFIT = {"other-release", "other-platform", "feature-missing", "unread-variable", "variable-gone"}
OWN = {"VLLM_HOST_IP"}  # beyond what upstream sets


def expanded() -> Iterator[Any]:
    """One a release, with what it changes of the first laid over it."""
    for case in CASES:
        first = case["stated"][0]
        for stated in case["stated"]:
            whole = {**first, **stated}
            for part in ("flags", "env"):
                both = {**first[part], **stated.get(part, {})}
                whole[part] = {key: value for key, value in both.items() if value is not None}
            name = f"{case['recipe']}, {case['node']}, {stated['release']}"
            yield pytest.param(case, whole, id=name)


def launched(recipe: str, platform: str, release: str, inputs: Mapping[str, str]) -> Launch:
    environ = {"RECIPE": recipe, "ASCEND_PLATFORM": platform, "VLLM_ASCEND_RELEASE": release}
    launch, findings = draft({**environ, "JEMALLOC": "0", **inputs})
    assert not findings
    assert launch
    return launch


def flags_of(argv: list[str]) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    last = ""
    for token in argv:
        if is_flag(token):
            assert token not in flags
            flags[token], last = True, token
        else:
            assert flags[last] is True
            flags[last] = json.loads(token) if token.startswith("{") else token
    return flags


def put(flags: dict[str, Any], key: str, value: Any) -> None:
    """Sets a flag, or one key of a JSON flag; None takes it away, and what is left empty."""
    name, _, rest = key.partition(".")
    if rest:
        inner = json.loads(json.dumps(flags.get(name) or {}))
        put(inner, rest, value)
        value = inner or None
    if value is None:
        flags.pop(name, None)
    else:
        flags[name] = value


def at(flags: Mapping[str, Any], key: str) -> Any:
    found: Any = flags
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


@pytest.mark.parametrize(("case", "stated"), list(expanded()))
def test_what_is_stated_is_planned(case: dict[str, Any], stated: dict[str, Any]) -> None:
    launch = launched(case["recipe"], case["platform"], stated["release"], case["inputs"])
    whole: dict[str, Any] = {
        "model": stated["model"],
        "env": dict(stated["env"]),
        "flags": dict(stated["flags"]),
    }
    for key, one in stated["differs"].items():
        part = whole["flags"] if key.startswith("--") else whole["env"]
        part = whole if key == "model" else part
        assert at(part, key) != one["planned"], f"{key} does not differ"
        assert one["because"]
        put(part, key, one["planned"])
    assert list(launch.argv[:3]) == ["vllm", "serve", whole["model"]]
    assert flags_of(list(launch.argv[3:])) == whole["flags"]
    own = OWN | launch.sources.keys()
    assert {k: v for k, v in launch.env.items() if k not in own} == whole["env"]


def test_cases_name_what_they_are_of() -> None:
    for case in CASES:
        releases = [one["release"] for one in case["stated"]]
        assert len(set(releases)) == len(releases)
        assert set(releases) <= set(recipes.load(case["recipe"]).releases), case["recipe"]


@pytest.mark.parametrize("name", recipes.names())
def test_every_claim_has_a_case(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.releases
    for release in recipe.releases:
        for group in recipe.on(release).groups:
            assert any(
                case["recipe"] == name
                and group in (case["inputs"]["ROLE"], case["inputs"].get("GROUP"))
                and case["platform"] in recipe.platforms
                and any(stated["release"] == release for stated in case["stated"])
                for case in CASES
            ), f"{group} on {release} has no case"


def parts(raw: Any) -> Iterator[tuple[Any, Any]]:
    """The recipe without what differs by release, and each of these; with what they cite."""
    differs = raw.get("by_release", {})
    yield {key: raw[key] for key in raw if key != "by_release"}, raw.get("source", {})
    for release, part in differs.items():
        assert release in str(part.get("source", {}))
        yield part, part.get("source", {})


def leaves(raw: Any, path: str = "") -> Iterator[str]:
    if isinstance(raw, dict) and raw:
        for key, value in raw.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


@pytest.mark.parametrize("name", recipes.names())
def test_every_fact_has_a_source(name: str) -> None:
    for raw, given in parts(data.read(data.path_of("recipes", f"{name}.yaml"))):
        sources = given if isinstance(given, dict) else {"": given}
        assert sources, "has no source"
        for key, source in sources.items():
            assert SOURCE.fullmatch(source), f"{key}: {source}"
            assert not key or key in {*leaves(raw), *prefixes(raw)}, f"{key} is not in the recipe"
        for leaf in leaves({key: raw[key] for key in raw if key not in UNSTATED}):
            covered = any(not key or f"{leaf}.".startswith(f"{key}.") for key in sources)
            assert covered, f"{leaf} has no source"


def prefixes(raw: Any) -> set[str]:
    parts = [leaf.split(".") for leaf in leaves(raw)]
    return {".".join(one[:n]) for one in parts for n in range(1, len(one))}


def nodes(recipe: recipes.Recipe) -> Iterator[tuple[str, dict[str, str]]]:
    """Every node of a recipe: rank 0 of a group, a further one, and a rank that is a server."""
    own = {"LOCAL_IP": "10.0.0.1", "NIC": "eth0"}
    for group, block in recipe.groups.items():
        yield group, {"ROLE": group, **own}
        if (block.nodes or 1) > 1 and group != "ray-head":
            further = {"GROUP": group, "NODE_RANK": "1", "LEADER_IP": "10.0.0.9"}
            yield f"{group} 1", {"ROLE": "headless", **further, **own}
        if group in recipes.SIDES and (block.sizes.dp or 1) > 1:
            yield f"{group} rank 1", {"ROLE": group, "DP_RANK": "1", "LEADER_IP": "10.0.0.9", **own}


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_holds_wherever_it_claims(name: str) -> None:
    recipe = recipes.load(name)
    for release in recipe.releases:
        known = catalogue.load(known_facts.release(release))
        for platform in recipe.platforms:
            for _, inputs in nodes(recipe.on(release)):
                launch = launched(name, platform, release, inputs)
                assert not {warning.code for warning in launch.warnings} & UNFIT
                for flag in flags_of(list(launch.argv[3:])):
                    assert flag in known.options or flag in known.negatives, flag
                needed = launch.facts and need(launch.facts)
                assert needed
                assert needed.total < needed.have


def test_a_release_that_is_not_claimed_is_told() -> None:
    inputs = {"ROLE": "prefill", "LOCAL_IP": "10.0.0.1", "NIC": "eth0"}
    launch = launched("deepseek-v3.1-w8a8/pd-a3", "a3", "v0.13.0", inputs)
    (found,) = (one for one in launch.warnings if one.code == "other-release")
    assert "stated for v0.13.0rc1" in found.message
    assert "v0.13.0" in found.message
