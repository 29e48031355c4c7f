"""List every check: code, severity, condition, messages and source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from clusters import checks as cluster_checks
from docs.render.markdown import Page, page
from entrypoints import messages
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
        launch=launch(),
        machine=machine(),
        broken=_line(messages.message("any.broken")),
        cluster=cluster(),
    )


def launch() -> list[Check]:
    """The checks of a plan: entrypoints/rules."""
    return [
        Check(code, one["severity"], one["what"], one["source"], _lines(_messages("launch")[code]))
        for code, one in messages.read("launch").items()
    ]


def cluster() -> list[Check]:
    """The checks of all containers together: clusters/checks."""
    return [
        Check(one.code, one.severity, one.what, one.source, _lines(one.messages))
        for one in cluster_checks.CHECKS
    ]


def machine() -> list[Check]:
    """The checks of a machine: entrypoints/preflight."""
    facts = data.read(data.path_of("preflight.yaml"))
    found = []
    for code, those in _messages("machine").items():
        bad = [
            one._replace(where="", source=source_of(one.source, facts))
            for one in those
            if one.severity in (ERROR, WARNING)
        ]
        if code != "any":
            found.append(_entry(code, those[0].where, bad))
    return found


def inputs() -> list[Check]:
    """Other errors, in variables, arguments and recipes, and of the start."""
    return [_entry(code, "", those) for code, those in _messages("inputs").items()]


def _messages(kind: str) -> dict[str, list[Message]]:
    """The messages of a kind by their code."""
    found: dict[str, list[Message]] = {}
    for one in messages.messages(kind).values():
        found.setdefault(one.code, []).append(one)
    return found


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
