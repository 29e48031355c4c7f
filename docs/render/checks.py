"""List every check: code, severity, condition, messages and source."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

import entrypoints
from clusters import checks as cluster_checks
from docs.render.markdown import Page, page
from entrypoints import findings, preflight, rules
from entrypoints.findings import ERROR, WARNING, Message
from entrypoints.inputs import data
from entrypoints.preflight.inspection import source_of

_PLACEHOLDER = re.compile(r"\{\w[^{}]*\}")


@dataclass(frozen=True)
class Line:
    """One message of a check, with `…` for a value. `severity`: empty where all are the same."""

    message: str
    fix: str
    severity: str = ""
    where: str = ""

    @property
    def text(self) -> str:
        """The beginning of the line: the place, unless it varies, and what is wrong."""
        return f"{self.where}: {self.message}" if self.where.strip("… .:") else self.message


@dataclass(frozen=True)
class Check:
    """One entry of the page."""

    code: str
    severity: str
    what: str
    source: str
    lines: tuple[Line, ...]


def render() -> Page:
    return page(
        "checks.md",
        "checks.md.j2",
        inputs=inputs(),
        launch=listed(rules.CHECKS),
        machine=machine(),
        broken=_line(preflight.BROKEN),
        cluster=listed(cluster_checks.CHECKS),
    )


def listed(those: Iterable[findings.Check]) -> list[Check]:
    """The checks of a plan (entrypoints/rules), or of all containers (clusters/checks)."""
    return [Check(*one[:4], _lines(one.messages)) for one in those]


def machine() -> list[Check]:
    """The checks of a machine: entrypoints/preflight. One may report under several codes."""
    facts = data.read(data.path_of("preflight.yaml"))
    whats: dict[str, str] = {}
    found: dict[str, list[Message]] = {}
    for one in preflight.CHECKS:
        for message in one.messages:
            if message.severity in (ERROR, WARNING):
                code = message.code or one.code
                source = source_of(message.source or one.source, facts)
                whats.setdefault(code, message.where or one.what)
                found.setdefault(code, []).append(message._replace(where="", source=source))
    return [_entry(code, whats[code], messages) for code, messages in found.items()]


def inputs() -> list[Check]:
    """Other errors in variables, arguments and recipes: the messages of all modules.

    Those of the checks have their own section.
    """
    others = {one.code for one in (*listed(rules.CHECKS), *machine())}
    found: dict[str, list[Message]] = {}
    for message in messages(entrypoints):
        if message.code and message.code not in others:
            found.setdefault(message.code, []).append(message)
    return [_entry(code, "", found[code]) for code in sorted(found)]


def messages(package: ModuleType) -> Iterator[Message]:
    """The messages that the modules of a package define, each once."""
    modules = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    names = (vars(importlib.import_module(one.name)) for one in modules)
    values = (value for each in names for value in each.values())
    return iter({id(one): one for one in values if isinstance(one, Message)}.values())


def _entry(code: str, what: str, messages: Iterable[Message]) -> Check:
    those = list(dict.fromkeys(messages))
    named = {_severity(one, what) for one in those}
    sources = dict.fromkeys(one.source for one in those if what and one.source)
    return Check(code, " or ".join(sorted(named)), what, ", ".join(sources), _lines(those, what))


def _severity(message: Message, what: str) -> str:
    error = message.severity == ERROR and not what
    return f"exit code {message.exit_code}" if error else message.severity


def _lines(messages: Iterable[Message], what: str = "") -> tuple[Line, ...]:
    return tuple(dict.fromkeys(_line(one, what) for one in messages))


def _line(message: Message, what: str = "") -> Line:
    text, fix, where = map(shown, (message.text, message.fix, message.where))
    return Line(text, fix, _severity(message, what), where)


def shown(template: str) -> str:
    """A template for people: `…` for a placeholder."""
    return _PLACEHOLDER.sub("…", template).replace("{{", "{").replace("}}", "}")
