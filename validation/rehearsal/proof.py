"""Which servers did the work: told by their own metrics, not by the answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import requests

from clusters.deployment import Deployment, Group
from entrypoints.inputs.recipes import SIDES
from validation.endpoint.verify import FAILED, OK, SKIPPED, Result
from validation.rehearsal.load import authorization

# vllm: names of counters on /metrics, 0.11 and later.
PROMPT = "vllm:prompt_tokens_total"
GENERATED = "vllm:generation_tokens_total"
FETCHED = "vllm:external_prefix_cache_hits_total"
_LINE = re.compile(r"^(vllm:\w+?)(?:\{([^}]*)\})? ([0-9.e+]+)$", re.MULTILINE)
_ENGINE = re.compile(r'\bengine="([^"]*)"')

# (Counter, the data parallel rank that counts; empty where the server does not say) -> its value.
Counts = Mapping[tuple[str, str], float]


def counts(endpoint: tuple[str, int], key: str = "") -> Counts:
    """Every counter of a server, of each of its engines; empty when it tells none."""
    host, port = endpoint
    try:
        answer = requests.get(
            f"http://{host}:{port}/metrics", headers=authorization(key), timeout=10
        )
    except requests.RequestException:
        return {}
    return read(answer.text)


def read(text: str) -> Counts:
    """The counters of a page of metrics; those that differ in other labels are added up."""
    found: dict[tuple[str, str], float] = {}
    for name, labels, value in _LINE.findall(text):
        engine = _ENGINE.search(labels)
        key = name, engine[1] if engine else ""
        found[key] = found.get(key, 0.0) + float(value)
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

    A server that a router left out while it chose another of the same role has not failed, nor has
    one that gave nothing to some of its data parallel ranks.
    """
    ends = {end: group for group in deployment.groups for end in group.endpoints}
    new = {
        end: {key: value - before[end].get(key, 0) for key, value in after[end].items()}
        for end in ends
    }
    busy = {group.role for end, group in ends.items() if _sum(new[end], PROMPT)}
    return [_result(group, end, new[end], group.role in busy) for end, group in ends.items()]


def _sum(new: Counts, counter: str) -> float:
    return sum(value for (name, _), value in new.items() if name == counter)


def _result(group: Group, end: tuple[str, int], new: Counts, busy: bool) -> Result:
    name = f"{group.name} at {end[0]}:{end[1]}"
    prompt, generated, fetched = (_sum(new, one) for one in (PROMPT, GENERATED, FETCHED))
    if busy and not prompt:
        return Result(name, SKIPPED, "got no request: others of its role were chosen", 0.0)
    told = f"{prompt:.0f} prompt tokens, {generated:.0f} generated"
    engines = {engine: value for (one, engine), value in new.items() if one == PROMPT}
    if len(engines) > 1:
        ranks = ", ".join(f"rank {engine} {value:.0f}" for engine, value in engines.items())
        told = f"{prompt:.0f} prompt tokens ({ranks}), {generated:.0f} generated"
    good = prompt > 0
    if group.role == SIDES[1]:
        told += f", {fetched:.0f} of the prompts' tokens from prefill"
        good = generated > 0 and fetched > 0
    state = SKIPPED if good and not all(engines.values()) else OK if good else FAILED
    return Result(name, state, told, 0.0)
