"""Evidence that servers did their work: from their own metrics, not from their answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import requests

from clusters.deployment import Deployment, Group
from entrypoints.inputs.recipes import SIDES
from validation.endpoint.verify import FAILED, OK, SKIPPED, Result
from validation.rehearsal.load_generator import authorization

# vllm: names of counters on /metrics, 0.11 and later.
PROMPT = "vllm:prompt_tokens_total"
GENERATED = "vllm:generation_tokens_total"
FETCHED = "vllm:external_prefix_cache_hits_total"
_LINE = re.compile(r"^(vllm:\w+?)(?:\{([^}]*)\})? ([0-9.e+]+)$", re.MULTILINE)
_ENGINE = re.compile(r'\bengine="([^"]*)"')

# (counter, data parallel rank, or "" if the server does not name one) -> value.
Counters = Mapping[tuple[str, str], float]


def read_counters(endpoint: tuple[str, int], key: str = "") -> Counters:
    """The counters of a server, by data parallel rank; empty if it does not answer."""
    host, port = endpoint
    try:
        answer = requests.get(
            f"http://{host}:{port}/metrics", headers=authorization(key), timeout=10
        )
    except requests.RequestException:
        return {}
    return parse_counters(answer.text)


def parse_counters(text: str) -> Counters:
    """Parse a page of Prometheus metrics; sums counters that differ in other labels."""
    found: dict[tuple[str, str], float] = {}
    for name, labels, value in _LINE.findall(text):
        engine = _ENGINE.search(labels)
        key = name, engine[1] if engine else ""
        found[key] = found.get(key, 0.0) + float(value)
    return found


def all_counters(deployment: Deployment, key: str = "") -> dict[tuple[str, int], Counters]:
    """The counters of every server of the deployment, by endpoint."""
    return {end: read_counters(end, key) for group in deployment.groups for end in group.endpoints}


def check_work(
    deployment: Deployment,
    before: Mapping[tuple[str, int], Counters],
    after: Mapping[tuple[str, int], Counters],
) -> list[Result]:
    """Check that prefill got prompts, and decode got them from prefill.

    A server is skipped, not failed, when a router chose only others of the same role, or gave
    nothing to some of its data parallel ranks.
    """
    ends = {end: group for group in deployment.groups for end in group.endpoints}
    new = {
        end: {key: value - before[end].get(key, 0) for key, value in after[end].items()}
        for end in ends
    }
    busy = {group.role for end, group in ends.items() if _sum(new[end], PROMPT)}
    return [_result(group, end, new[end], group.role in busy) for end, group in ends.items()]


def _sum(new: Counters, counter: str) -> float:
    return sum(value for (name, _), value in new.items() if name == counter)


def _result(group: Group, end: tuple[str, int], new: Counters, busy: bool) -> Result:
    name = f"{group.name} at {end[0]}:{end[1]}"
    prompt, generated, fetched = (_sum(new, one) for one in (PROMPT, GENERATED, FETCHED))
    if busy and not prompt:
        return Result(name, SKIPPED, "got no request: the router chose others of its role", 0.0)
    by_rank = {rank: value for (counter, rank), value in new.items() if counter == PROMPT}
    ranks = ", ".join(f"rank {rank} {value:.0f}" for rank, value in by_rank.items())
    message = f"{prompt:.0f} prompt tokens{f' ({ranks})' if len(by_rank) > 1 else ''}"
    message += f", {generated:.0f} generated"
    good = prompt > 0
    if group.role == SIDES[1]:
        message += f", {fetched:.0f} of the prompts' tokens from prefill"
        good = generated > 0 and fetched > 0
    state = SKIPPED if good and not all(by_rank.values()) else OK if good else FAILED
    return Result(name, state, message, 0.0)
