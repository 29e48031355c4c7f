"""The data of the checks: their texts (checks.yaml), and what must be equal (agree.yaml)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.checks.facts import Facts, Found
from entrypoints.findings import Message
from entrypoints.inputs import data


def _read(name: str) -> Any:
    return data.read(str(Path(__file__).with_name(name)))


AGREE = _read("agree.yaml")
_CHECKS = _read("checks.yaml")


@dataclass(frozen=True)
class Check:
    """A rule with a code. `what`: when it reports something. `messages`: all that it can report.

    `rule` takes the facts and the messages, and yields paths in the cluster file with findings.
    """

    code: str
    severity: str
    what: str
    source: str
    messages: tuple[Message, ...]
    rule: Callable[..., Found]

    def __call__(self, facts: Facts) -> Found:
        return self.rule(facts, *self.messages)


def check(code: str) -> Callable[[Callable[..., Found]], Check]:
    """Make a check of the decorated rule, which takes the facts and the messages of its code."""
    raw = _CHECKS[code]
    common = {"code": code, "severity": raw["severity"], "source": raw["source"]}
    messages = tuple(Message(**{**common, **message}) for message in raw["messages"])
    return lambda rule: Check(code, raw["severity"], raw["what"], raw["source"], messages, rule)
