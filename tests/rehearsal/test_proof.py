"""What the servers' metrics prove."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from clusters.file import read
from rehearsal import proof, recorded
from rehearsal.cast import cast
from rehearsal.sizes import Machine

ROOT = Path(__file__).parents[2]
IDLE = {proof.PROMPT: 0.0, proof.GENERATED: 0.0, proof.FETCHED: 0.0}
# Two prefill servers and one decode server.
FILE = read.read(ROOT / "clusters/examples/kubernetes.yaml").cluster
assert FILE is not None
RUNS = recorded.engine(FILE, "image:tag")
DEPLOYMENT = cast(FILE, IPv4Network("10.211.0.0/20"), RUNS, Machine(2, 24.0)).deployment
FIRST, SECOND, DECODE = (end for group in DEPLOYMENT.groups for end in group.endpoints)


def proven(**after: dict[str, float]) -> list[str]:
    before = {end: IDLE for end in (FIRST, SECOND, DECODE)}
    counts = {FIRST: after["first"], SECOND: after["second"], DECODE: after["decode"]}
    return [result.state for result in proof.prove(DEPLOYMENT, before, counts)]


def busy(fetched: float = 0.0) -> dict[str, float]:
    return {proof.PROMPT: 10.0, proof.GENERATED: 4.0, proof.FETCHED: fetched}


def test_decode_has_to_take_its_prompts_from_prefill() -> None:
    assert proven(first=busy(), second=busy(), decode=busy(10.0)) == ["ok", "ok", "ok"]
    assert proven(first=busy(), second=busy(), decode=busy(0.0)) == ["ok", "ok", "failed"]


def test_a_server_that_was_not_chosen_is_told_apart_from_a_role_that_did_nothing() -> None:
    assert proven(first=busy(), second=IDLE, decode=busy(10.0)) == ["ok", "skipped", "ok"]
    assert proven(first=IDLE, second=IDLE, decode=busy(10.0)) == ["failed", "failed", "ok"]


def test_a_server_that_tells_nothing_is_not_proven() -> None:
    assert proven(first={}, second={}, decode={}) == ["failed"] * 3
