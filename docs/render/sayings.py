"""Where checks and problems are told: the words of each, with the code they are told under."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from docs.render import words
from docs.render.words import Call
from entrypoints import problems
from entrypoints.preflight.look import Check as MachineCheck

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Saying:
    """One thing that a check says. `source` in place of the check's own."""

    message: str
    fix: str
    severity: str = ""
    source: str = ""
    where: str = ""

    @property
    def text(self) -> str:
        """The begin of the line: where, as far as that is always the same, and what is wrong."""
        return f"{self.where}: {self.message}" if self.where.strip("… .:") else self.message


class Form(NamedTuple):
    """A call that tells of something: the places of its arguments, None where there is none.

    `exit_code`: that of all its problems; 0 for advice, None where an argument may say it.
    """

    code: int | None
    where: int | None
    message: int
    fix: int
    exit_code: int | None


FORMS = {
    "Problem": Form(0, 1, 2, 3, None),
    "Advice": Form(0, None, 1, 2, 0),
    "wrong": Form(0, None, 1, 2, problems.USAGE),
    "self.wrong": Form(3, 0, 1, 2, problems.DATA),
    "return": Form(0, None, 1, 2, problems.USAGE),
}
_CODE = re.compile(r"[a-z]+(-[a-z]+)+")


def of_problem(call: Call) -> Iterator[tuple[str, str, Saying]]:
    """Code, severity and words of a call that tells of a problem or advises; nothing for others."""
    form = FORMS.get(call.name)
    if form is None:
        return
    codes = call.arguments(form.code, "code") if form.code is not None else []
    if call.name == "self.wrong" and not codes:
        codes = ["bad-recipe"]  # the default of that method
    where = call.argument(form.where, "where") if form.where is not None else ""
    severity = _severity(call, form)
    for code in filter(_CODE.fullmatch, codes):
        for message, fix in _told(call, form.message):
            yield code, severity, Saying(message, fix, where=where)


def _severity(call: Call, form: Form) -> str:
    if form.exit_code == 0:
        return WARNING
    number = form.exit_code
    if number is None:
        stated = call.given(5, "exit_code")
        number = call.value(5, "exit_code") if stated else problems.USAGE
    return f"exit code {number}" if number else "exit code by the case"


def of_rule(rule: Callable[..., Any], first: int) -> tuple[Saying, ...]:
    """What a rule yields, and the functions beside it. `first`: the place of Found's message."""
    sayings: dict[Saying, None] = {}
    for call in _reached(rule, set()):
        if call.name == "Found":
            sayings |= {Saying(message, fix): None for message, fix in _told(call, first)}
    return tuple(sayings)


def _reached(function: Callable[..., Any], seen: set[str]) -> Iterator[Call]:
    """The calls of a function and of the functions of its module that it calls."""
    seen.add(function.__name__)
    module = inspect.getmodule(function)
    for call in words.calls(function, {}):
        yield call
        other = getattr(module, call.name, None)
        if not inspect.isfunction(other) or other.__module__ != function.__module__:
            continue
        if other.__name__ not in seen:
            yield from _reached(other, seen)


def of_machine(
    function: Callable[..., Any], check: MachineCheck, facts: Any, seen: set[tuple[str, str]]
) -> Iterator[tuple[str, Saying]]:
    """The findings of a function, each with the code of the check that it is about."""
    if (function.__name__, check.code) in seen:
        return
    seen.add((function.__name__, check.code))
    module = inspect.getmodule(function)
    known = {"check": check, "look": _Facts(facts)}
    for call in words.calls(function, known):
        owner, _, method = call.name.rpartition(".")
        if method in ("failed", "warning"):
            about = check if owner == "check" else getattr(module, owner, None)
            if isinstance(about, MachineCheck):
                severity = ERROR if method == "failed" else WARNING
                yield from _findings(call, about.code, severity, 0)
        elif call.name == "Finding":
            state = call.word(1)
            severity = {"FAILED": ERROR, "WARNING": WARNING}.get(state, f"{ERROR} or {WARNING}")
            yield from _findings(call, check.code, severity, 3)
        else:
            other = getattr(module, call.name, None)
            if inspect.isfunction(other) and other.__module__ == function.__module__:
                passed = call.value(0, "check")
                about = passed if isinstance(passed, MachineCheck) else check
                yield from of_machine(other, about, facts, seen)


def _findings(call: Call, code: str, severity: str, first: int) -> Iterator[tuple[str, Saying]]:
    source = call.value(first + 2, "source")
    for message, fix in _told(call, first):
        yield code, Saying(message, fix, severity, source if isinstance(source, str) else "")


def _told(call: Call, first: int) -> Iterator[tuple[str, str]]:
    """Each message with its fix; where one is assigned in branches, so is the other."""
    fixes = call.arguments(first + 1, "fix") or [""]
    for index, message in enumerate(call.arguments(first, "message")):
        yield message, fixes[min(index, len(fixes) - 1)]


@dataclass(frozen=True)
class _Facts:
    """What a check may look at that is known without a machine."""

    facts: Any
