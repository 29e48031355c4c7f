"""What only the whole deployment can tell: whether its containers fit each other.

A check is a small function over Facts that yields what it found, and where in the file. What one
container's entrypoint can tell by itself is a check of the entrypoint (entrypoints/rules).
"""

from __future__ import annotations

from clusters.checks import groups, nodes, ports, requests, secrets, transfer
from clusters.checks.facts import Check, Found, gather_facts
from clusters.compile.addresses import PlacedNames
from clusters.deployment import Deployment
from common.errors import Finding

__all__ = ["CHECKS", "Check", "Found", "check", "findings"]

CHECKS: tuple[Check, ...] = (
    *groups.CHECKS,
    *nodes.CHECKS,
    *ports.CHECKS,
    *transfer.CHECKS,
    *requests.CHECKS,
    *secrets.CHECKS,
)


def check(deployment: Deployment) -> tuple[Finding, ...]:
    """Everything that the checks find, each thing once."""
    known, shown = gather_facts(deployment), PlacedNames(deployment.cluster)
    cluster = deployment.cluster
    found = {
        Finding(
            file=cluster.file,
            line=cluster.line(one.path),
            severity=each.severity,
            code=each.code,
            where=".".join(map(str, one.path)) or "the file",
            message=shown.text(one.message),
            fix=one.fix,
            source=one.source or each.source,
        )
        for each in CHECKS
        for one in each.rule(known)
    }
    return tuple(sorted(found))


def findings(deployment: Deployment) -> tuple[Finding, ...]:
    """All that is known against a deployment: the compiler's and entrypoints', and the checks'."""
    replaced = {code for each in CHECKS for code in each.replaces}
    kept = (one for one in deployment.findings if one.code not in replaced)
    return tuple(sorted({*kept, *check(deployment)}))
