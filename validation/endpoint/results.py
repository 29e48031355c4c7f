"""Results of benchmarks, and what becomes of one beside the others and the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError, user_error
from validation.endpoint import store
from validation.endpoint.benchmarks import REFERENCE, Benchmarks, Case


@dataclass(frozen=True)
class Result:
    """One run: its figures by the names that vLLM gives them.

    `recipe` is the model of a run that had none.
    """

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
        """Requests that got no whole answer."""
        return (self.requests or 0) - (self.completed or 0)

    @property
    def referred(self) -> bool:
        """Whether the reference's figures are for such a run."""
        return bool(self.case.reference) and self.scale == 1 and self.case.belongs(self.recipe)

    def beside(self, other: Result) -> bool:
        """Whether the two may be compared."""
        return self.case.name == other.case.name and self.scale == other.scale


@dataclass(frozen=True)
class Row:
    """A line of a comparison. `ratios` are the run's figures divided by these."""

    label: str
    values: Mapping[str, float]
    ratios: Mapping[str, float]


def result(record: Mapping[str, Any], benchmarks: Benchmarks, where: str) -> Result:
    """A record as a result. Raises UserError (65) when it is none."""
    case = benchmarks.cases.get(str(record.get("case")))
    raw = record.get("result")
    if case is None or not isinstance(raw, Mapping):
        raise user_error(where, "is no result of a benchmark", exit_code=EX_DATAERR)
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
    """The result in a file. Raises UserError (65)."""
    return result(store.read(path), benchmarks, str(path))


def stored(directory: Path, benchmarks: Benchmarks) -> list[Result]:
    """Every result of a directory, by date; files that are something else are left out."""
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            found.append(read(path, benchmarks))
        except UserError:
            continue
    return sorted(found, key=lambda one: one.date)


def chosen(paths: Iterable[str], like: Case, scale: float, benchmarks: Benchmarks) -> list[Result]:
    """The results that --compare names. Raises UserError (65) with everything that is wrong."""
    found: list[Result] = []
    problems: list[Finding] = []
    for path in paths:
        try:
            one = read(Path(path), benchmarks)
        except UserError as error:
            problems += error.findings
            continue
        found.append(one)
        if one.case.name != like.name:
            problems.append(Finding(path, f"is of case {one.case.name}, not {like.name}"))
        elif one.scale != scale:
            problems.append(Finding(path, f"is at scale {one.scale:g}, not {scale:g}"))
    if problems:
        raise UserError(problems, EX_DATAERR)
    return found


def compared(run: Result, others: Iterable[Result]) -> list[Row]:
    """The run, the others that it may stand beside, and the reference where it is of such runs."""
    rows = [Row("this run", run.values, {})]
    rows += [_row(label(one), one.values, run) for one in others if run.beside(one)]
    if run.referred:
        rows.append(_row(REFERENCE, run.case.reference, run))
    return rows


def when(one: Result) -> str:
    """Its minute."""
    return one.date[:16].replace("T", " ")


def label(one: Result) -> str:
    """What tells a run from others of its case."""
    return f"{when(one)}, {one.recipe}, vLLM {one.vllm}"


def _row(title: str, values: Mapping[str, float], run: Result) -> Row:
    ratios = {name: run.values[name] / value for name, value in values.items() if value}
    return Row(title, values, ratios)
