"""Known issues of the release that the plan meets: env/known_issues.yaml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from entrypoints.findings import Finding
from entrypoints.inputs import data
from entrypoints.launch.facts import Facts
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_DCP = "--decode-context-parallel-size"


def known_issues(facts: Facts) -> Iterator[Finding]:
    issues = data.read(data.path_of("known_issues.yaml"))["releases"]
    for one in issues.get(facts.release.facts, ()):
        if "when" in one and meets(facts, one["when"]):
            named = {"release": facts.release.name, "issue": one["issue"], "advice": one["fix"]}
            yield finding("known-issue", source=one["source"], **named)


def meets(facts: Facts, when: Mapping[str, Any]) -> bool:
    """Whether a plan meets all conditions."""
    return all(CONDITIONS[name](facts, value) for name, value in when.items())


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _within(number: int | None, bounds: Any) -> bool:
    low, high = bounds
    return number is not None and low <= number and (high is None or number <= high)


def _config(facts: Facts, key: str) -> Any:
    value: Any = facts.json("--additional-config")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


# Condition -> whether the plan meets it. Numbers are bounds, [low, high or null]. A list of names
# means any of them; a list of keys, features or flags means all of them.
CONDITIONS: Mapping[str, Callable[[Facts, Any], bool]] = {
    "models": lambda facts, names: any(_plain(n) in _plain(facts.model_name) for n in names),
    "roles": lambda facts, names: facts.place.group.name in names,
    "platforms": lambda facts, names: facts.platform is not None and facts.platform.name in names,
    "connectors": lambda facts, names: (
        facts.transfer is not None and not set(names).isdisjoint(facts.transfer.connectors)
    ),
    "transfer": lambda facts, wanted: (facts.transfer is not None) == wanted,
    "quantized": lambda facts, wanted: ("--quantization" in facts.flags) == wanted,
    "speculative": lambda facts, names: facts.json("--speculative-config").get("method") in names,
    "given": lambda facts, flags: all(flag in facts.flags for flag in flags),
    "features": lambda facts, names: all(facts.feature(name) for name in names),
    "config": lambda facts, keys: all(_config(facts, key) for key in keys),
    "without": lambda facts, keys: not any(_config(facts, key) for key in keys),
    "tp": lambda facts, bounds: _within(facts.place.tp, bounds),
    "pp": lambda facts, bounds: _within(facts.place.pp, bounds),
    "dp": lambda facts, bounds: _within(facts.place.dp, bounds),
    "pcp": lambda facts, bounds: _within(facts.place.pcp, bounds),
    "ep": lambda facts, bounds: _within(facts.expert_parallel, bounds),
    "dcp": lambda facts, bounds: _within(facts.number(_DCP), bounds),
    "context": lambda facts, bounds: _within(facts.number("--max-model-len"), bounds),
}

RULES = (known_issues,)
