"""Results of benchmarks as one page of HTML and SVG that needs nothing else, not even scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import put
from validation.endpoint.benchmarks import Benchmarks, Case, Metric
from validation.endpoint.results import Result, label, when
from validation.endpoint.show import figure

NAME = "index.html"
WIDEST = 96.0  # percent of the picture's width


@dataclass(frozen=True)
class Bar:
    """One run in a chart."""

    label: str
    value: float
    width: float


@dataclass(frozen=True)
class Chart:
    """One metric of several runs on one scale. `mark` is where the reference lies, in percent."""

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
    def referred(self) -> bool:
        return any(run.referred for run in self.runs)

    @property
    def scaled(self) -> list[str]:
        """The flags of the case that the scale makes smaller."""
        return [name for name in self.case.kind.scaled if name in self.case.flags]

    @property
    def charts(self) -> list[Chart]:
        return [self._chart(one) for one in self.case.kind.metrics.values() if one.drawn]

    def _chart(self, metric: Metric) -> Chart:
        reference = self.case.reference.get(metric.name) if self.referred else None
        values = [run.values[metric.name] for run in self.runs]
        unit = WIDEST / (max([*values, reference or 0]) or 1)
        bars = (
            Bar(f"{when(run)}, vLLM {run.vllm}", value, value * unit)
            for run, value in zip(self.runs, values, strict=True)
        )
        return Chart(metric, tuple(bars), reference, (reference or 0) * unit)


def sections(results: Sequence[Result], benchmarks: Benchmarks) -> Iterator[Section]:
    """By case as benchmarks.yaml has them, full scale first."""
    order = list(benchmarks.cases)

    def place(one: Result) -> tuple[int, float]:
        return order.index(one.case.name), -one.scale

    for _, runs in groupby(sorted(results, key=lambda one: (place(one), one.date)), key=place):
        group = tuple(runs)
        yield Section(group[0].case, group[0].scale, group)


def render(results: Sequence[Result], benchmarks: Benchmarks) -> str:
    """The page."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(figure=figure, label=label)
    return templates.get_template("page.html.j2").render(
        sections=list(sections(results, benchmarks)), benchmarks=benchmarks
    )


def write(directory: Path, results: Sequence[Result], benchmarks: Benchmarks) -> Path:
    """The page of every result, in place of the one before. Raises UserError as put does."""
    return put(directory / NAME, render(results, benchmarks) + "\n")
