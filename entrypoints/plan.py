"""Plan this node: read the inputs, make the launch, and apply the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from entrypoints.findings import WARNING, Finding, Refused, errors
from entrypoints.launch import context, network
from entrypoints.launch.model import Launch


def plan(
    environ: Mapping[str, str], tokens: Sequence[str] = (), host: network.Host = network.HOST
) -> Launch:
    """Return the launch of this node; start nothing and change nothing.

    Raises Refused with every error that could be found.
    """
    launch, found = draft(environ, tokens, host)
    if found or launch is None:
        raise Refused(found)
    return launch


def draft(
    environ: Mapping[str, str], tokens: Sequence[str] = (), host: network.Host = network.HOST
) -> tuple[Launch | None, tuple[Finding, ...]]:
    """Return the launch, as far as it can be planned, and every error that prevents its start."""
    findings: list[Finding] = []
    try:
        launch = _draft(environ, tokens, host, findings)
    except Refused as refused:
        return None, refused.findings
    warnings = tuple(one for one in findings if one.severity == WARNING)
    return launch._replace(warnings=warnings), errors(findings)


def _draft(
    environ: Mapping[str, str], tokens: Sequence[str], host: network.Host, findings: list[Finding]
) -> Launch:
    node, place = context.gather(environ, tokens, host, findings)
    if place is None:
        from entrypoints.launch import proxy

        return proxy.launch(node, findings)
    if node.role.program == "ray":
        from entrypoints.launch import ray

        return ray.worker(node, place, findings)
    from entrypoints import rules
    from entrypoints.launch import serve

    launch = serve.launch(node, place, findings)
    if launch.facts:
        findings += rules.check(launch.facts)
    return launch
