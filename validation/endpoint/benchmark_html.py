"""The HTML report of benchmarks: charts and tables on one standalone page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from common.files import write_output
from validation.endpoint.benchmark_report import format_number
from validation.endpoint.benchmark_results import Result, label, minute
from validation.endpoint.benchmarks import Benchmarks, Case, Metric
from validation.html import render as render_html

NAME = "index.html"
MAX_WIDTH = 96.0  # of a bar, in percent of the chart


@dataclass(frozen=True)
class Bar:
    """One run in a chart. `width` in percent."""

    label: str
    value: float
    width: float


@dataclass(frozen=True)
class Chart:
    """One metric of several runs. `mark`: position of the reference, in percent."""

    metric: Metric
    bars: tuple[Bar, ...]
    reference: float | None
    mark: float


@dataclass(frozen=True)
class Section:
    """The runs of one case at one scale, oldest first."""

    case: Case
    scale: float
    runs: tuple[Result, ...]

    @property
    def has_reference(self) -> bool:
        return any(run.has_reference for run in self.runs)

    @property
    def scaled(self) -> list[str]:
        """The flags of the case that --scale reduces."""
        return [name for name in self.case.kind.scaled if name in self.case.flags]

    @property
    def charts(self) -> list[Chart]:
        return [self._chart(one) for one in self.case.kind.metrics.values() if one.drawn]

    def _chart(self, metric: Metric) -> Chart:
        reference = self.case.reference.get(metric.name) if self.has_reference else None
        values = [run.values[metric.name] for run in self.runs]
        unit = MAX_WIDTH / (max([*values, reference or 0]) or 1)
        bars = (
            Bar(f"{minute(run)}, vLLM {run.vllm}", value, value * unit)
            for run, value in zip(self.runs, values, strict=True)
        )
        return Chart(metric, tuple(bars), reference, (reference or 0) * unit)


def sections(results: Sequence[Result], benchmarks: Benchmarks) -> Iterator[Section]:
    """The results by case, in the order of benchmarks.yaml; full scale first."""
    order = list(benchmarks.cases)

    def place(one: Result) -> tuple[int, float]:
        return order.index(one.case.name), -one.scale

    for _, runs in groupby(sorted(results, key=lambda one: (place(one), one.date)), key=place):
        group = tuple(runs)
        yield Section(group[0].case, group[0].scale, group)


def render(results: Sequence[Result], benchmarks: Benchmarks) -> str:
    """The page."""
    filters = {"number": format_number, "label": label}
    found = list(sections(results, benchmarks))
    return render_html("benchmarks", filters, sections=found, benchmarks=benchmarks)


def write(directory: Path, results: Sequence[Result], benchmarks: Benchmarks) -> Path:
    """Write the page of all results to `directory`. Raises UserError (69)."""
    return write_output(directory / NAME, render(results, benchmarks))
