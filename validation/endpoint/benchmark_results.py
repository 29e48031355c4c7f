"""Read benchmark results, and compare one with others and with the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError, user_error
from validation.endpoint import run_records
from validation.endpoint.benchmarks import REFERENCE, Benchmarks, Case


@dataclass(frozen=True)
class Result:
    """One run. `values`: by vLLM's names. `recipe`: the model, if the run had no recipe."""

    case: Case
    date: str
    recipe: str
    vllm: str
    scale: float
    values: Mapping[str, float]
    requests: int | None = None
    completed: int | None = None

    @property
    def failed(self) -> int:
        """The number of requests without a complete answer."""
        return (self.requests or 0) - (self.completed or 0)

    @property
    def has_reference(self) -> bool:
        """Whether the reference applies to this run."""
        return bool(self.case.reference) and self.scale == 1 and self.case.belongs(self.recipe)

    def comparable(self, other: Result) -> bool:
        """Whether the two results may be compared."""
        return self.case.name == other.case.name and self.scale == other.scale


@dataclass(frozen=True)
class Row:
    """A line of a comparison. `ratios`: the run's values divided by these."""

    label: str
    values: Mapping[str, float]
    ratios: Mapping[str, float]


def result(record: Mapping[str, Any], benchmarks: Benchmarks, where: str) -> Result:
    """Convert a run record to a result. Raises UserError (65) if it is not of a benchmark."""
    case = benchmarks.cases.get(str(record.get("case")))
    raw = record.get("result")
    if case is None or not isinstance(raw, Mapping):
        raise user_error(where, "is not a benchmark result", exit_code=EX_DATAERR)
    wrong = [name for name in case.kind.metrics if not isinstance(raw.get(name), (int, float))]
    wrong += [
        name
        for name in ("date", "recipe", "target", "vllm")
        if not isinstance(record.get(name), str)
    ]
    scale = record.get("scale")
    if wrong or not isinstance(scale, (int, float)):
        wrong += [] if isinstance(scale, (int, float)) else ["scale"]
        raise UserError((Finding(where, f"has no {name}") for name in wrong), EX_DATAERR)
    return Result(
        case,
        record["date"],
        record["recipe"] or record["target"],
        record["vllm"],
        float(scale),
        {name: float(raw[name]) for name in case.kind.metrics},
        raw.get("num_prompts"),
        raw.get("completed"),
    )


def read(path: Path, benchmarks: Benchmarks) -> Result:
    """Read the result in a file. Raises UserError (65)."""
    return result(run_records.read(path), benchmarks, str(path))


def read_all(directory: Path, benchmarks: Benchmarks) -> list[Result]:
    """Read every result in a directory, by date. Skips other files."""
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            found.append(read(path, benchmarks))
        except UserError:
            continue
    return sorted(found, key=lambda one: one.date)


def read_comparable(
    paths: Iterable[str], case: Case, scale: float, benchmarks: Benchmarks
) -> list[Result]:
    """Read the results that --compare names. Raises UserError (65) with all that is wrong."""
    found: list[Result] = []
    problems: list[Finding] = []
    for path in paths:
        try:
            one = read(Path(path), benchmarks)
        except UserError as error:
            problems += error.findings
            continue
        found.append(one)
        if one.case.name != case.name:
            problems.append(Finding(path, f"is of case {one.case.name}, not {case.name}"))
        elif one.scale != scale:
            problems.append(Finding(path, f"is at scale {one.scale:g}, not {scale:g}"))
    if problems:
        raise UserError(problems, EX_DATAERR)
    return found


def compare(run: Result, others: Iterable[Result]) -> list[Row]:
    """The run, the comparable ones among the others, and the reference if it applies."""
    rows = [Row("this run", run.values, {})]
    rows += [_row(label(one), one.values, run) for one in others if run.comparable(one)]
    if run.has_reference:
        rows.append(_row(REFERENCE, run.case.reference, run))
    return rows


def minute(one: Result) -> str:
    """The date of the run, to the minute."""
    return one.date[:16].replace("T", " ")


def label(one: Result) -> str:
    """A label that tells the runs of a case apart."""
    return f"{minute(one)}, {one.recipe}, vLLM {one.vllm}"


def _row(title: str, values: Mapping[str, float], run: Result) -> Row:
    ratios = {name: run.values[name] / value for name, value in values.items() if value}
    return Row(title, values, ratios)
