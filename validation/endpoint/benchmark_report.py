"""Print a benchmark and its comparison: as a table, and as JSON data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common.text import table
from validation.endpoint import upstream_figures
from validation.endpoint.benchmark_results import Result, Row
from validation.endpoint.benchmarks import Benchmarks


def benchmark_data(run: Result, rows: Sequence[Row], files: Mapping[str, str]) -> dict[str, Any]:
    """A benchmark and its comparison as JSON data."""
    return {
        "case": run.case.name,
        "kind": run.case.kind.name,
        "recipe": run.recipe,
        "vllm": run.vllm,
        "scale": run.scale,
        "requests": run.requests,
        "failed": run.failed,
        "rows": [asdict(row) for row in rows],
        "upstream": [one.data for one in upstream_figures.of_benchmark(run)],
        **files,
    }


def benchmark_text(run: Result, rows: Sequence[Row], benchmarks: Benchmarks) -> str:
    """A table of the run, the others and the reference, with notes."""
    metrics = run.case.kind.metrics.values()
    lines = [["", *(f"{one.title}, {one.unit}" for one in metrics)]]
    lines += [[row.label, *(_cell(row, one.name) for one in metrics)] for row in rows]
    compared = table(lines, right=range(1, len(lines[0])))
    title = f"{run.case.title} ({run.case.name})"
    return "\n".join([title, compared, *notes(run, rows, benchmarks)])


def notes(run: Result, rows: Sequence[Row], benchmarks: Benchmarks) -> Iterator[str]:
    """Notes on a run and its comparison."""
    if run.failed:
        yield f"{run.failed} of {run.requests} requests got no complete answer"
    if len(rows) > 1:
        yield "x: the value of this run divided by that one"
    if run.scale < 1:
        comparable = "; not comparable with the reference" if run.case.reference else ""
        yield f"scaled down to {run.scale:g}{comparable}"
    elif run.has_reference:
        yield f"reference: {benchmarks.source}; {benchmarks.made_with}"
        if run.case.reference_difference:
            yield run.case.reference_difference
    elif run.case.reference:
        yield f"the reference is for {', '.join(run.case.recipes)}"
    for one in upstream_figures.of_benchmark(run):
        yield one.text


def format_number(value: float) -> str:
    """The value with two decimals, or four significant digits if it is below 10."""
    return f"{value:.2f}" if abs(value) >= 10 or value == 0 else f"{value:.4g}"


def _cell(row: Row, metric: str) -> str:
    if metric not in row.values:
        return "-"
    text = format_number(row.values[metric])
    return f"{text} x{row.ratios[metric]:.2f}" if metric in row.ratios else text
