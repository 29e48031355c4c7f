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


def results_text(results: Sequence[Result]) -> str:
    """One check a line, and how many of them failed."""
    width = max(len(one.name) for one in results)
    lines = [
        f"{one.state:8} {one.name:{width}} {one.seconds:6.2f} s  {one.message}" for one in results
    ]
    failed = sum(one.state == FAILED for one in results)
    return "\n".join([*lines, f"{failed} of {len(results)} failed" if failed else "all is well"])
