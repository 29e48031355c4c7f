"""The benchmarks of benchmarks.yaml: cases, flags by vLLM version, metrics, reference values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from packaging.version import Version

from common.errors import did_you_mean, user_error
from common.yaml import document

BENCHMARKS = Path(__file__).parent / "benchmarks.yaml"
REFERENCE = "reference"
OUTPUT = "output_throughput"  # of the kind serve


@dataclass(frozen=True)
class Metric:
    """A value of a result. `name`: vLLM's. `better`: 'lower' or 'higher'. `drawn`: in a chart."""

    name: str
    title: str
    unit: str
    better: str
    drawn: bool = False


@dataclass(frozen=True)
class Kind:
    """A subcommand of `vllm bench`. `scaled`: flags that --scale reduces."""

    name: str
    flags: Mapping[str, Any]
    scaled: Sequence[str]
    metrics: Mapping[str, Metric]


@dataclass(frozen=True)
class Difference:
    """How the flags of a kind differ in some versions of vLLM: `since` one and `below` another."""

    kind: str
    source: str
    since: str = "0"
    below: str = ""
    add: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)

    def applies(self, kind: str, vllm: Version) -> bool:
        fits = Version(self.since) <= vllm and (not self.below or vllm < Version(self.below))
        return kind == self.kind and fits


@dataclass(frozen=True)
class Case:
    """A benchmark. `reference`: its values. `reference_flags`: the load that its table states."""

    name: str
    title: str
    kind: Kind
    recipes: Sequence[str]
    flags: Mapping[str, Any]
    reference: Mapping[str, float] = field(default_factory=dict)
    reference_flags: Mapping[str, Any] = field(default_factory=dict)

    def belongs(self, recipe: str) -> bool:
        return any(fnmatchcase(recipe, pattern) for pattern in self.recipes)

    @property
    def reference_difference(self) -> str:
        """How the reference's table differs from its command; empty if it does not."""
        other = {
            name: value for name, value in self.reference_flags.items() if self.flags[name] != value
        }
        if not other:
            return ""
        table = ", ".join(f"{name} {value}" for name, value in other.items())
        command = ", ".join(f"{name} {self.flags[name]}" for name in other)
        return f"the reference's table says {table}, but its command {command}, as here"


@dataclass(frozen=True)
class Benchmarks:
    """benchmarks.yaml."""

    kinds: Mapping[str, Kind]
    cases: Mapping[str, Case]
    differences: tuple[Difference, ...]
    source: str
    made_with: str

    def case(self, kind: str, recipe: str, name: str = "") -> Case:
        """The case called `name`, or the first of the kind for a recipe. Raises UserError."""
        if kind not in self.kinds:
            raise user_error("--kind", f"'{kind}' is not known", did_you_mean(kind, self.kinds))
        known = {one.name: one for one in self.cases.values() if one.kind.name == kind}
        if not name:
            return next(one for one in known.values() if one.belongs(recipe))
        if name not in known:
            raise user_error(
                "--case", f"'{name}' is not a case of {kind}", did_you_mean(name, known)
            )
        return known[name]

    def flags(self, case: Case, vllm: str, scale: float = 1) -> dict[str, Any]:
        """The flags of a case for this version of vLLM."""
        flags = {**case.kind.flags, **case.flags}
        for name in case.kind.scaled:
            if name in flags:
                flags[name] = max(1, round(flags[name] * scale))
        for one in self.differences:
            if one.applies(case.kind.name, Version(vllm)):
                flags.update(one.add)
                flags = {one.rename.get(name, name): value for name, value in flags.items()}
        return flags


@cache
def load() -> Benchmarks:
    """Read benchmarks.yaml."""
    raw = document(BENCHMARKS)
    kinds = {name: _kind(name, one) for name, one in raw["kinds"].items()}
    cases = {
        name: Case(name=name, **{**one, "kind": kinds[one["kind"]]})
        for name, one in raw["cases"].items()
    }
    differences = tuple(Difference(**one) for one in raw["differences"])
    return Benchmarks(kinds, cases, differences, **raw["reference"])


def _kind(name: str, raw: Mapping[str, Any]) -> Kind:
    metrics = {metric: Metric(metric, **one) for metric, one in raw["metrics"].items()}
    return Kind(name, **{**raw, "metrics": metrics})
