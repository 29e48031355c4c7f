"""How results of trials are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trials.verify import FAILED, Result


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
