"""Inspected images against their size budgets, and their sizes as new baselines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

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
