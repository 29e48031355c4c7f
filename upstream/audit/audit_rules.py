"""Audit the sources of the checks of the entrypoint and of cluster files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from upstream.audit.audit_env import audit_citation
from upstream.audit.audit_result import AuditResult, unsourced
from upstream.audit.citations import Library

NAMED = re.compile(r"--[a-z][a-z-]+|\b(?:VLLM|HCCL|ASCEND)_[A-Z0-9_]+")


@dataclass(frozen=True)
class Rule:
    """A check of either kind."""

    code: str
    what: str
    source: str


def audit(file: str, rules: Iterable[Rule], library: Library) -> Iterator[AuditResult]:
    """Audit each rule: its citation must be near the flags and variables that it names."""
    for rule in rules:
        if not rule.source.strip():
            yield unsourced(file, rule.code, rule.what)
        else:
            words = NAMED.findall(rule.what)
            yield audit_citation(file, rule.code, rule.source, library, words)


def every() -> dict[str, tuple[Rule, ...]]:
    """The checks of a launch and of a cluster, by where they are declared."""
    from clusters.checks import CHECKS
    from entrypoints import messages

    launch = messages.read("launch").items()
    return {
        "env/messages/launch.yaml": tuple(Rule(k, v["what"], v["source"]) for k, v in launch),
        "clusters/checks": tuple(Rule(one.code, one.what, one.source) for one in CHECKS),
    }
