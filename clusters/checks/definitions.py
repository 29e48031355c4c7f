"""The data of the checks: their texts (checks.yaml), and what must be equal (agree.yaml)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from entrypoints import findings
from entrypoints.findings import Check, Message
from entrypoints.inputs import data


def _read(name: str) -> Any:
    return data.read(str(Path(__file__).with_name(name)))


AGREE = _read("agree.yaml")
_CHECKS = _read("checks.yaml")


def check(code: str) -> Callable[[Callable[..., Any]], Check]:
    """Make a check of the decorated rule, which takes the facts and the messages of its code."""
    one = _CHECKS[code]
    messages = (Message(**message) for message in one["messages"])
    return findings.check(code, one["severity"], one["what"], one["source"], *messages)
