"""Checks of a whole deployment: whether its containers fit each other.

A check is a rule over Facts with the messages that it can report; it yields findings, each with a
path in the cluster file. What one container's entrypoint can tell alone is a check of the
entrypoint (entrypoints/rules).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clusters import compile
from clusters.checks import groups, nodes, ports, requests, secrets, transfer
from clusters.checks.definitions import Check
from clusters.checks.facts import gather_facts
from clusters.compile.addresses import PlacedNames
from clusters.compile.locate import at_path
from clusters.deployment import Deployment
from clusters.file import read
from common.errors import EX_DATAERR, Finding, UserError

__all__ = ["CHECKS", "Check", "check", "checked", "findings", "load_deployment"]

_MODULES = (groups, nodes, ports, transfer, requests, secrets)
CHECKS: tuple[Check, ...] = tuple(
    one for module in _MODULES for one in vars(module).values() if isinstance(one, Check)
)
# Codes of the entrypoint that a check here reports better.
_REPLACED = frozenset({"missing-endpoints", "concurrency"})


def check(deployment: Deployment) -> tuple[Finding, ...]:
    """What the checks find, sorted, each finding once."""
    facts, names = gather_facts(deployment), PlacedNames(deployment.cluster)
    found = {
        at_path(deployment.cluster, path, one._replace(message=names.text(one.message)))
        for each in CHECKS
        for path, one in each(facts)
    }
    return tuple(sorted(found))


def findings(deployment: Deployment) -> tuple[Finding, ...]:
    """All findings about a deployment: of the compiler, the entrypoints and the checks."""
    kept = (one for one in deployment.findings if one.code not in _REPLACED)
    return tuple(sorted({*kept, *check(deployment)}))


def load_deployment(path: str | Path) -> Deployment:
    """The deployment that a file describes, with all findings about it.

    Raises UserError (65) when the file has errors.
    """
    return checked(read.read(path))


def checked(found: read.Reading) -> Deployment:
    """As `load_deployment`, for a file that was already read."""
    if found.cluster is None:
        raise UserError(found.findings, EX_DATAERR)
    deployment = compile.deployment(found.cluster)
    every = {*found.findings, *findings(deployment)}
    return replace(deployment, findings=tuple(sorted(every)))
