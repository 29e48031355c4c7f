"""Which servers did the work: told by their own metrics, not by the answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import requests

from clusters.deployment import Deployment, Group
from entrypoints.inputs.recipes import SIDES
from trials.verify import FAILED, OK, SKIPPED, Result

# vllm: names of counters on /metrics, 0.11 and later.
PROMPT = "vllm:prompt_tokens_total"
GENERATED = "vllm:generation_tokens_total"
FETCHED = "vllm:external_prefix_cache_hits_total"
_LINE = re.compile(r"^(vllm:\w+?)(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)

Counts = Mapping[str, float]


def counts(endpoint: tuple[str, int], key: str = "") -> Counts:
    """The sum of every counter of a server over its engines; empty when it tells none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    host, port = endpoint
    try:
        answer = requests.get(f"http://{host}:{port}/metrics", headers=headers, timeout=10)
    except requests.RequestException:
        return {}
    found: dict[str, float] = {}
    for name, value in _LINE.findall(answer.text):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def work(deployment: Deployment, key: str = "") -> dict[tuple[str, int], Counts]:
    """The counts of every server of the deployment."""
    return {end: counts(end, key) for group in deployment.groups for end in group.endpoints}


def prove(
    deployment: Deployment,
    before: Mapping[tuple[str, int], Counts],
    after: Mapping[tuple[str, int], Counts],
) -> list[Result]:
    """That prompts went to prefill, and from there to decode.

    A server that a router left out while it chose another of the same role has not failed.
    """
    new = {
        end: {
            name: after[end].get(name, 0) - before[end].get(name, 0)
            for name in (PROMPT, GENERATED, FETCHED)
        }
        for group in deployment.groups
        for end in group.endpoints
    }
    busy = {
        group.role for group in deployment.groups for end in group.endpoints if new[end][PROMPT]
    }
    return [
        _result(group, end, new[end], group.role in busy)
        for group in deployment.groups
        for end in group.endpoints
    ]


def _result(group: Group, end: tuple[str, int], new: Counts, busy: bool) -> Result:
    name = f"{group.name} at {end[0]}:{end[1]}"
    told = f"{new[PROMPT]:.0f} prompt tokens, {new[GENERATED]:.0f} generated"
    if busy and not new[PROMPT]:
        return Result(name, SKIPPED, "got no request: others of its role were chosen", 0.0)
    good = new[PROMPT] > 0
    if group.role == SIDES[1]:
        told += f", {new[FETCHED]:.0f} of the prompts' tokens from prefill"
        good = new[GENERATED] > 0 and new[FETCHED] > 0
    return Result(name, OK if good else FAILED, told, 0.0)
