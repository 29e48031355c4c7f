"""What the servers' metrics prove."""

from __future__ import annotations

from ipaddress import IPv4Network

from clusters.file import read
from tests import ROOT
from validation.rehearsal import evidence, recorded_engine
from validation.rehearsal.deployment import rehearsal_deployment
from validation.rehearsal.evidence import Counters
from validation.rehearsal.parallel_sizes import Machine

IDLE = {(evidence.PROMPT, ""): 0.0, (evidence.GENERATED, ""): 0.0, (evidence.FETCHED, ""): 0.0}
# Two prefill servers and one decode server.
FILE = read.read(ROOT / "clusters/examples/kubernetes.yaml").cluster
assert FILE is not None
RUNS = recorded_engine.engine(FILE, "image:tag")
DEPLOYMENT = rehearsal_deployment(
    FILE, IPv4Network("10.211.0.0/20"), RUNS, Machine(2, 24.0)
).deployment
FIRST, SECOND, DECODE = (end for group in DEPLOYMENT.groups for end in group.endpoints)


def proven(**after: Counters) -> list[str]:
    before = {end: IDLE for end in (FIRST, SECOND, DECODE)}
    counts = {FIRST: after["first"], SECOND: after["second"], DECODE: after["decode"]}
    return [result.state for result in evidence.check_work(DEPLOYMENT, before, counts)]


def busy(fetched: float = 0.0) -> Counters:
    return {
        (evidence.PROMPT, ""): 10.0,
        (evidence.GENERATED, ""): 4.0,
        (evidence.FETCHED, ""): fetched,
    }


def test_decode_has_to_take_its_prompts_from_prefill() -> None:
    assert proven(first=busy(), second=busy(), decode=busy(10.0)) == ["ok", "ok", "ok"]
    assert proven(first=busy(), second=busy(), decode=busy(0.0)) == ["ok", "ok", "failed"]


def test_a_server_that_was_not_chosen_is_told_apart_from_a_role_that_did_nothing() -> None:
    assert proven(first=busy(), second=IDLE, decode=busy(10.0)) == ["ok", "skipped", "ok"]
    assert proven(first=IDLE, second=IDLE, decode=busy(10.0)) == ["failed", "failed", "ok"]


def test_a_server_that_tells_nothing_is_not_proven() -> None:
    assert proven(first={}, second={}, decode={}) == ["failed"] * 3


def test_every_rank_of_a_server_has_to_take_part() -> None:
    ranks = {**busy(10.0), (evidence.PROMPT, "0"): 6.0, (evidence.PROMPT, "1"): 4.0}
    del ranks[evidence.PROMPT, ""]
    before = {end: IDLE for end in (FIRST, SECOND, DECODE)}
    for second, state in ((4.0, "ok"), (0.0, "skipped")):
        ranks[evidence.PROMPT, "1"] = second
        after = {FIRST: busy(), SECOND: busy(), DECODE: ranks}
        decode = evidence.check_work(DEPLOYMENT, before, after)[-1]
        assert (decode.state, f"rank 1 {second:.0f}" in decode.message) == (state, True)


def test_counters_are_read_from_a_page_of_metrics() -> None:
    page = """
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="qwen3"} 12.0
vllm:prompt_tokens_total{engine="1",model_name="qwen3"} 1.5e+06
vllm:request_success_total{engine="0",finished_reason="stop"} 2.0
vllm:request_success_total{engine="0",finished_reason="length"} 3.0
vllm:generation_tokens_total 4
process_cpu_seconds_total 9.0
"""
    assert evidence.parse_counters(page) == {
        (evidence.PROMPT, "0"): 12.0,
        (evidence.PROMPT, "1"): 1.5e6,
        ("vllm:request_success_total", "0"): 5.0,
        (evidence.GENERATED, ""): 4.0,
    }
