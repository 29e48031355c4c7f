"""Compare a result with the figures of upstream's own tests of the same configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from entrypoints.inputs import baselines, recipes, stack
from entrypoints.inputs.baselines import ACCURACY, THROUGHPUT, Figure
from validation.endpoint.benchmark_results import Result
from validation.endpoint.benchmarks import OUTPUT


@dataclass(frozen=True)
class Comparison:
    """A result beside upstream's figure. `value`: output tokens a second, or percent correct."""

    figure: Figure
    value: float

    @property
    def text(self) -> str:
        """The comparison for people."""
        one = self.figure
        row = f"{one.configuration}: {one.target}, {one.sends}; {one.source}"
        if one.metric == ACCURACY:
            difference = self.value - one.baseline
            passes = "within" if abs(difference) <= one.threshold else "not within"
            what = f"{difference:+.2f} points from upstream's {one.schedule} figure, {passes} its"
            return f"{what} threshold ({row})"
        share = self.value / one.baseline
        passes = "" if share >= one.threshold else f", below its threshold of {one.threshold:.0%}"
        return f"{share:.0%} of upstream's {one.schedule} figure{passes} ({row})"

    @property
    def data(self) -> dict[str, Any]:
        """The comparison as JSON data."""
        one = self.figure
        return {
            **one._asdict(),
            "platforms": list(one.platforms),
            "value": self.value,
            "ratio": self.value / one.baseline,
        }


def of_benchmark(run: Result) -> list[Comparison]:
    """Compare a whole run's output with the figures of its recipe and vLLM."""
    if run.scale != 1 or OUTPUT not in run.values:
        return []
    figures = _figures(run.recipe, run.vllm, THROUGHPUT)
    return [Comparison(one, run.values[OUTPUT]) for one in figures]


def of_accuracy(record: Mapping[str, Any]) -> list[Comparison]:
    """Compare the score on a whole data set with the figures of its recipe and vLLM."""
    figures = _figures(record["recipe"], record["vllm"], ACCURACY) if record["whole"] else ()
    same = (one for one in figures if one.dataset == record["dataset"])
    return [Comparison(one, record["accuracy"]) for one in same]


def _figures(recipe: str, vllm: str, metric: str) -> Iterator[Figure]:
    try:
        version = Version(vllm).public
    except InvalidVersion:
        return
    for one in baselines.of(recipes.load(recipe)) if recipe in recipes.names() else ():
        release = stack.release(one.release, [])
        if one.metric == metric and release and release.vllm == version:
            yield one
