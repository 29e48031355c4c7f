"""Audit the sources of the checks of the entrypoint and of cluster files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from upstream.audit.audit_env import audit_citation
from upstream.audit.audit_result import AuditResult, unsourced
from upstream.audit.citations import Library

NAMED = re.compile(r"--[a-z][a-z-]+|\b(?:VLLM|HCCL|ASCEND)_[A-Z0-9_]+")


class Rule(Protocol):
    """A check of either kind."""

    @property
    def code(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def source(self) -> str: ...


def audit(file: str, rules: Iterable[Rule], library: Library) -> Iterator[AuditResult]:
    """Audit each rule: its citation must be near the flags and variables that it names."""
    for rule in rules:
        if not rule.source.strip():
            yield unsourced(file, rule.code, rule.what)
        else:
            words = NAMED.findall(rule.what)
            yield audit_citation(file, rule.code, rule.source, library, words)


def every() -> dict[str, tuple[Rule, ...]]:
    """The checks, by the package that defines them."""
    from clusters.checks import CHECKS as OF_CLUSTERS
    from entrypoints.rules import CHECKS as OF_SERVERS

    return {"entrypoints/rules": OF_SERVERS, "clusters/checks": OF_CLUSTERS}
