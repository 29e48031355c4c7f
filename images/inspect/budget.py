"""Inspected images against their size budgets, and their sizes as new baselines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from common.text import table
from images.build.budgets import MB, Budgets, Verdict, check
from images.inspect.model import Image


def verdicts(budgets: Budgets, images: Iterable[Image]) -> list[Verdict]:
    """Compare each image with its budget."""
    return [check(budgets, one.title, one.budget_key, one.layer_sizes) for one in images]


def entries(images: Iterable[Image]) -> list[dict[str, Any]]:
    """The sizes of images as entries of budgets.yaml, with a baseline and no limit."""
    return [
        {
            **vars(one.budget_key),
            "baseline": {name: round(size / MB, 1) for name, size in one.layer_sizes.items()},
        }
        for one in images
    ]


def entries_text(entries: list[dict[str, Any]]) -> str:
    return yaml.safe_dump(entries, sort_keys=False, width=95).rstrip()


def verdicts_data(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    return [
        {
            "reference": one.reference,
            **vars(one.key),
            "size": round(one.size, 3),
            "budget": one.limit,
            "known": one.known,
            "layers": [
                {"name": name, "size": round(size, 3), "baseline": before}
                for name, size, before in one.layers
            ],
            "problems": [str(problem) for problem in one.problems],
        }
        for one in verdicts
    ]


def verdicts_text(verdicts: Iterable[Verdict]) -> str:
    return "\n\n".join(_verdict(one) for one in verdicts)


def _verdict(one: Verdict) -> str:
    if not one.known:
        return (
            f"{one.reference}: {one.size:,.1f} MB; images/build/budgets.yaml has nothing for"
            f" {one.key}\n"
            "  (invoke inspect IMAGE --baseline prints an entry)"
        )
    limit = "without a budget" if one.limit is None else f"of {one.limit:,.1f} MB"
    rows = [("  layer", "MB", "baseline", "")]
    for name, size, before in one.layers:
        was = "-" if before is None else f"{before:,.1f}"
        by = "" if before is None else f"{size - before:+,.1f}"
        rows.append((f"  {name}", f"{size:,.1f}", was, by))
    return f"{one.reference}: {one.size:,.1f} MB {limit}\n{table(rows, right=(1, 2, 3))}"
