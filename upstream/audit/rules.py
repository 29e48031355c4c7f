"""The checks of the entrypoint and of a cluster file: each names its source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from upstream.audit.citations import Library
from upstream.audit.documents import judged
from upstream.audit.statement import Statement, unsourced

NAMED = re.compile(r"--[a-z][a-z-]+|\b(?:VLLM|HCCL|ASCEND)_[A-Z0-9_]+")


class Rule(Protocol):
    """What both kinds of checks have."""

    @property
    def code(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def source(self) -> str: ...


def statements(file: str, rules: Iterable[Rule], library: Library) -> Iterator[Statement]:
    """One for each rule; the flags and variables that it names stand near the line it cites."""
    for rule in rules:
        if not rule.source.strip():
            yield unsourced(file, rule.code, rule.what)
        else:
            words = NAMED.findall(rule.what)
            yield judged(file, rule.code, rule.source, library, words)


def every() -> dict[str, tuple[Rule, ...]]:
    """The rules by the place where they are defined."""
    from clusters.checks import CHECKS as OF_CLUSTERS
    from entrypoints.rules import CHECKS as OF_SERVERS

    return {"entrypoints/rules": OF_SERVERS, "clusters/checks": OF_CLUSTERS}
