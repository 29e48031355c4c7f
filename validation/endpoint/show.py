"""How results of trials are printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from validation.endpoint.benchmarks import Benchmarks
from validation.endpoint.results import Result as Benchmark
from validation.endpoint.results import Row
from validation.endpoint.verify import FAILED, Result


def results_data(results: Sequence[Result]) -> dict[str, Any]:
    """The results for programs."""
    rows = [{**asdict(one), "seconds": round(one.seconds, 3)} for one in results]
    return {"failed": any(one.state == FAILED for one in results), "checks": rows}


def result_text(result: Result) -> str:
    """One check as a line."""
    return f"{result.state:8} {result.name:20} {result.seconds:6.2f} s  {result.message}"


def summary_text(results: Sequence[Result]) -> str:
    """How many checks failed."""
    failed = sum(one.state == FAILED for one in results)
    return f"{failed} of {len(results)} failed" if failed else "all is well"


def benchmark_data(run: Benchmark, rows: Sequence[Row], files: Mapping[str, str]) -> dict[str, Any]:
    """A benchmark beside the others, for programs."""
    return {
        "case": run.case.name,
        "kind": run.case.kind.name,
        "recipe": run.recipe,
        "vllm": run.vllm,
        "scale": run.scale,
        "requests": run.requests,
        "failed": run.failed,
        "rows": [asdict(row) for row in rows],
        **files,
    }


def benchmark_text(run: Benchmark, rows: Sequence[Row], benchmarks: Benchmarks) -> str:
    """A table of the run, the others and the reference, and what has to be known of it."""
    metrics = run.case.kind.metrics.values()
    table = [["", *(f"{one.title}, {one.unit}" for one in metrics)]]
    table += [[row.label, *(_cell(row, one.name) for one in metrics)] for row in rows]
    first, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
    lines = [
        f"{line[0]:{first}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths, strict=True))
        for line in table
    ]
    title = f"{run.case.title} ({run.case.name})"
    return "\n".join([title, *lines, *notes(run, rows, benchmarks)])


def notes(run: Benchmark, rows: Sequence[Row], benchmarks: Benchmarks) -> Iterator[str]:
    """What has to be known of a run and its comparison."""
    if run.failed:
        yield f"{run.failed} of {run.requests} requests got no whole answer"
    if len(rows) > 1:
        yield "x: this run's figure divided by that one"
    if run.scale < 1:
        no_match = ": no match for the reference" if run.case.reference else ""
        yield f"a small run of the same shape, scale {run.scale:g}{no_match}"
    elif run.referred:
        yield f"reference: {benchmarks.source}; {benchmarks.made_with}"
        if run.case.oddity:
            yield run.case.oddity
    elif run.case.reference:
        yield f"the reference's figures are of {', '.join(run.case.recipes)}"


def figure(value: float) -> str:
    """A figure with four digits or two decimals, whichever says more."""
    return f"{value:.2f}" if abs(value) >= 10 or value == 0 else f"{value:.4g}"


def _cell(row: Row, metric: str) -> str:
    if metric not in row.values:
        return "-"
    text = figure(row.values[metric])
    return f"{text} x{row.ratios[metric]:.2f}" if metric in row.ratios else text
