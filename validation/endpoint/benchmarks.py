"""The benchmarks: cases, their flags in a release of vLLM, metrics, and the reference's figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version

from common.errors import did_you_mean, user_error

BENCHMARKS = Path(__file__).parent / "benchmarks.yaml"
REFERENCE = "reference"


@dataclass(frozen=True)
class Metric:
    """One figure of a result: `name` is vLLM's, `better` is 'lower' or 'higher'."""

    name: str
    title: str
    unit: str
    better: str
    drawn: bool = False


@dataclass(frozen=True)
class Kind:
    """A subcommand of `vllm bench`. `scaled` are the flags that a scale makes smaller."""

    name: str
    flags: Mapping[str, Any]
    scaled: tuple[str, ...]
    metrics: Mapping[str, Metric]


@dataclass(frozen=True)
class Difference:
    """What a kind's flags are in some releases only."""

    kind: str
    source: str
    since: Version | None = None
    below: Version | None = None
    add: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)

    def holds(self, kind: str, vllm: Version) -> bool:
        return (
            kind == self.kind
            and (self.since is None or vllm >= self.since)
            and (self.below is None or vllm < self.below)
        )


@dataclass(frozen=True)
class Case:
    """One benchmark. `reference` has the reference's figures, `reference_flags` the load."""

    name: str
    title: str
    kind: Kind
    recipes: tuple[str, ...]
    flags: Mapping[str, Any]
    reference: Mapping[str, float]
    reference_flags: Mapping[str, Any]

    def belongs(self, recipe: str) -> bool:
        return any(fnmatchcase(recipe, pattern) for pattern in self.recipes)

    @property
    def oddity(self) -> str:
        """Where the reference's table does not say what its command does."""
        other = {
            name: said for name, said in self.reference_flags.items() if self.flags[name] != said
        }
        if not other:
            return ""
        table = ", ".join(f"{name} {said}" for name, said in other.items())
        command = ", ".join(f"{name} {self.flags[name]}" for name in other)
        return f"the reference's table says {table}, its command {command}, which is what runs here"


@dataclass(frozen=True)
class Benchmarks:
    """benchmarks.yaml."""

    kinds: Mapping[str, Kind]
    cases: Mapping[str, Case]
    differences: tuple[Difference, ...]
    source: str
    made_with: str

    def case(self, kind: str, recipe: str, name: str = "") -> Case:
        """The case by name, or the first of a kind for a recipe. Raises UserError."""
        if kind not in self.kinds:
            raise user_error("--kind", f"'{kind}' is not known", did_you_mean(kind, self.kinds))
        known = {one.name: one for one in self.cases.values() if one.kind.name == kind}
        if not name:
            return next(one for one in known.values() if one.belongs(recipe))
        if name not in known:
            raise user_error("--case", f"'{name}' is no case of {kind}", did_you_mean(name, known))
        return known[name]

    def flags(self, case: Case, vllm: str, scale: float = 1) -> dict[str, Any]:
        """The flags of a case as this vLLM takes them."""
        flags = {**case.kind.flags, **case.flags}
        for name in case.kind.scaled:
            if name in flags:
                flags[name] = max(1, round(flags[name] * scale))
        for one in self.differences:
            if one.holds(case.kind.name, Version(vllm)):
                flags.update(one.add)
                flags = {one.rename.get(name, name): value for name, value in flags.items()}
        return flags


@cache
def load() -> Benchmarks:
    """What benchmarks.yaml says."""
    raw = yaml.safe_load(BENCHMARKS.read_text(encoding="utf-8"))
    kinds = {name: _kind(name, one) for name, one in raw["kinds"].items()}
    return Benchmarks(
        kinds,
        {name: _case(name, one, kinds) for name, one in raw["cases"].items()},
        tuple(_difference(one) for one in raw["differences"]),
        raw["reference"]["source"],
        raw["reference"]["made_with"],
    )


def _kind(name: str, raw: Mapping[str, Any]) -> Kind:
    metrics = {metric: Metric(metric, **one) for metric, one in raw["metrics"].items()}
    return Kind(name, raw["flags"], tuple(raw["scaled"]), metrics)


def _difference(raw: Mapping[str, Any]) -> Difference:
    return Difference(
        raw["kind"],
        raw["source"],
        Version(raw["from"]) if "from" in raw else None,
        Version(raw["below"]) if "below" in raw else None,
        raw.get("add", {}),
        raw.get("rename", {}),
    )


def _case(name: str, raw: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Case:
    return Case(
        name,
        raw["title"],
        kinds[raw["kind"]],
        tuple(raw["recipes"]),
        raw["flags"],
        raw.get("reference", {}),
        raw.get("reference_flags", {}),
    )
