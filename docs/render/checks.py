"""Every check: its code, how hard it is, when it speaks, what it says, and its source."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import Formatter
from types import ModuleType

import entrypoints
from clusters import checks as cluster_checks
from docs.render import sayings, words
from docs.render.page import Page, page
from docs.render.sayings import Saying
from entrypoints import preflight, rules
from entrypoints.inputs import data
from entrypoints.preflight.look import Check as MachineCheck


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
        Check(one.code, one.severity, one.what, one.source, sayings.of_rule(one.rule, 0))
        for one in rules.CHECKS
    ]


def cluster() -> list[Check]:
    """The checks of all containers together: clusters/checks."""
    return [
        Check(
            one.code,
            one.severity,
            one.what,
            one.source,
            tuple(Saying(_template(said.text), _template(said.fix)) for said in one.messages),
        )
        for one in cluster_checks.CHECKS
    ]


def _template(text: str) -> str:
    """A message's template with `…` for each value."""
    parts = Formatter().parse(text)
    return "".join(literal + "…" * (name is not None) for literal, name, _, _ in parts)


def machine() -> list[Check]:
    """What a machine is held to: entrypoints/preflight."""
    facts = data.read(data.path_of("preflight.yaml"))
    said: dict[str, list[Saying]] = {}
    for one in preflight.CHECKS:
        for code, saying in sayings.of_machine(one.look, one, facts, set()):
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
            for code, severity, saying in sayings.of_problem(call):
                if code not in others:
                    severities, told = found.setdefault(code, (set(), {}))
                    severities.add(severity)
                    told[saying] = None
    return [
        Check(code, _together(severities), "", "", tuple(told))
        for code, (severities, told) in sorted(found.items())
    ]


def _together(severities: Iterable[str]) -> str:
    return " or ".join(sorted(set(severities)))


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
