"""Every check: its code, how hard it is, when it speaks, what it says, and its source."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import entrypoints
from clusters import checks as cluster_checks
from entrypoints import preflight, problems, rules
from entrypoints.inputs import data
from entrypoints.preflight.look import Check as MachineCheck
from reference import words
from reference.page import Page, page
from reference.words import Call

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


@dataclass(frozen=True)
class Check:
    """One entry of the page."""

    code: str
    severity: str
    what: str
    source: str
    sayings: tuple[Saying, ...]


def made() -> Page:
    return page(
        "checks.md",
        "checks.md.j2",
        inputs=inputs(),
        launch=launch(),
        machine=machine(),
        cluster=cluster(),
    )


def launch() -> list[Check]:
    """What a plan is held to: entrypoints/rules."""
    return [
        Check(one.code, one.severity, one.what, one.source, _found(one.rule, 0))
        for one in rules.CHECKS
    ]


def cluster() -> list[Check]:
    """What all containers together are held to: clusters/checks."""
    return [
        Check(one.code, one.severity, one.what, one.source, _found(one.rule, 1))
        for one in cluster_checks.CHECKS
    ]


def machine() -> list[Check]:
    """What a machine is held to: entrypoints/preflight."""
    facts = data.read(data.path_of("preflight.yaml"))
    said: dict[str, list[Saying]] = {}
    for one in preflight.CHECKS:
        for code, saying in _preflight(one.look, one, facts, set()):
            if saying not in said.setdefault(code, []):
                said[code].append(saying)
    names = {one.code: one.what for one in _preflight_checks()}
    return [
        Check(
            code,
            _together(word for one in said[code] for word in one.severity.split(" or ")),
            names[code],
            ", ".join(dict.fromkeys(one.source for one in said[code] if one.source)),
            tuple(said[code]),
        )
        for code in names
        if code in said
    ]


def inputs() -> list[Check]:
    """What is wrong with variables, arguments and recipes: what has a code and is no check."""
    others = {one.code for one in (*launch(), *machine())}
    found: dict[str, tuple[set[str], dict[Saying, None]]] = {}
    for module in _modules(entrypoints):
        for call in words.calls_in(module):
            for code, severity, saying in _inputs(call):
                if code not in others:
                    severities, sayings = found.setdefault(code, (set(), {}))
                    severities.add(severity)
                    sayings[saying] = None
    return [
        Check(code, _together(severities), "", "", tuple(sayings))
        for code, (severities, sayings) in sorted(found.items())
    ]


def _inputs(call: Call) -> Iterator[tuple[str, str, Saying]]:
    """Code, severity and words of a call that tells of a problem or advises."""
    # What it is called as -> index of code, where, message, fix; the exit code, where it is fixed.
    forms: dict[str, tuple[int | None, int | None, int, int, int | None]] = {
        "Problem": (0, 1, 2, 3, None),
        "Advice": (0, None, 1, 2, 0),
        "wrong": (0, None, 1, 2, problems.USAGE),
        "self.wrong": (3, 0, 1, 2, problems.DATA),
        "return": (0, None, 1, 2, problems.USAGE),
    }
    if call.name not in forms:
        return
    at_code, at_where, at_message, at_fix, exit_code = forms[call.name]
    codes = call.arguments(at_code, "code") if at_code is not None else []
    if call.name == "self.wrong" and not codes:
        codes = ["bad-recipe"]
    if exit_code is None:
        given = call.value(5, "exit_code")
        exit_code = given or (problems.USAGE if not call.given(5, "exit_code") else -1)
    known = f"exit code {exit_code}" if exit_code > 0 else "exit code by the case"
    severity = known if exit_code else WARNING
    where = call.argument(at_where, "where") if at_where is not None else ""
    fixes = call.arguments(at_fix, "fix")
    for code in codes:
        if re.fullmatch(r"[a-z]+(-[a-z]+)*", code) and "-" in code:
            for index, message in enumerate(call.arguments(at_message, "message")):
                fix = fixes[min(index, len(fixes) - 1)] if fixes else ""
                yield code, severity, Saying(message, fix, where=where)


def _together(severities: Iterable[str]) -> str:
    return " or ".join(sorted(set(severities)))


def _found(rule: Callable[..., Any], first: int) -> tuple[Saying, ...]:
    """What a rule yields, and the functions beside it that it takes from."""
    sayings: dict[Saying, None] = {}
    for call in _reached(rule, set()):
        if call.name == "Found":
            fixes = call.arguments(first + 1, "fix")
            for index, message in enumerate(call.arguments(first, "message")):
                sayings[Saying(message, fixes[min(index, len(fixes) - 1)])] = None
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


def _preflight(
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
                yield from _preflight(other, about, facts, seen)


def _findings(call: Call, code: str, severity: str, first: int) -> Iterator[tuple[str, Saying]]:
    fixes = call.arguments(first + 1, "fix")
    source = call.value(first + 2, "source")
    for index, message in enumerate(call.arguments(first, "message")):
        fix = fixes[min(index, len(fixes) - 1)]
        yield code, Saying(message, fix, severity, source if isinstance(source, str) else "")


@dataclass(frozen=True)
class _Facts:
    """What a check may look at that is known without a machine."""

    facts: Any


def _preflight_checks() -> Iterator[MachineCheck]:
    """In the order of CHECKS; those that another one's look reports come behind it."""
    for one in preflight.CHECKS:
        yield one
        module = inspect.getmodule(one.look)
        for other in vars(module).values():
            if isinstance(other, MachineCheck) and other.look is one.look and other != one:
                yield other


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not one.name.endswith("__main__"):
            yield importlib.import_module(one.name)
