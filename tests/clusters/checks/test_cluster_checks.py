"""Each check of a deployment, where it fires and where it is silent; the examples are allowed."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import checks
from clusters.checks import load_deployment
from clusters.compile import deployment
from clusters.file import read
from common.errors import ERROR, WARNING, Finding
from tests import ROOT

DOCUMENT = yaml.safe_load(Path(__file__).with_name("cluster_checks.yaml").read_text())
BASES, CASES = DOCUMENT["bases"], DOCUMENT["checks"]


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(code, case, id=f"{code}-{i}")
        for code, both in CASES.items()
        for i, case in enumerate(both[kind])
    ]


def changed(case: dict[str, Any]) -> dict[str, Any]:
    """The base with its changes."""
    document: dict[str, Any] = copy.deepcopy(BASES[case["base"]])
    for path, value in case.get("set", {}).items():
        *keys, last = path.split(".")
        at = document
        for key in keys:
            if not isinstance(at.get(key), dict):
                at[key] = {}
            at = at[key]
        if value is None and not case.get("keep"):
            del at[last]
        else:
            at[last] = value
    return document


def found(case: dict[str, Any], code: str) -> list[Finding]:
    reading = read.read_text("cluster.yaml", yaml.safe_dump(changed(case), sort_keys=False))
    assert reading.cluster is not None, [str(one) for one in reading.findings]
    return [one for one in checks.findings(deployment(reading.cluster)) if one.code == code]


@pytest.mark.parametrize(("code", "case"), cases("fires"))
def test_fires(code: str, case: dict[str, Any]) -> None:
    several = found(case, code)
    assert several, "nothing found"
    assert several[0].where == case["at"]
    assert all(one.message and one.fix and one.source and one.line for one in several)
    assert {one.severity for one in several} == {
        check.severity for check in checks.CHECKS if check.code == code
    }


@pytest.mark.parametrize(("code", "case"), cases("silent"))
def test_silent(code: str, case: dict[str, Any]) -> None:
    assert [str(one) for one in found(case, code)] == []


def test_every_check_has_cases() -> None:
    codes = [one.code for one in checks.CHECKS]
    assert sorted(codes) == sorted(CASES)
    assert len(set(codes)) == len(codes)
    assert all(CASES[code]["fires"] and CASES[code]["silent"] for code in codes)
    assert {one.severity for one in checks.CHECKS} == {ERROR, WARNING}


@pytest.mark.parametrize("base", BASES)
def test_nothing_is_wrong_with_a_base(base: str) -> None:
    reading = read.read_text("cluster.yaml", yaml.safe_dump(BASES[base], sort_keys=False))
    assert reading.cluster is not None
    assert [
        str(one) for one in checks.findings(deployment(reading.cluster)) if one.severity == ERROR
    ] == []


def test_the_examples_have_only_warnings_that_are_true() -> None:
    """The reference's own: a key that nothing reads, its metrics port, and its length."""
    codes = {
        path.stem: sorted({one.code for one in load_deployment(path).findings})
        for path in (ROOT / "clusters/examples").glob("*.yaml")
    }
    assert {name: found for name, found in codes.items() if found} == {
        "kubernetes": ["kv-key-unread"],
        "pd-3node": ["kv-key-unread", "port-in-range"],
        "single": ["context-beyond-scaling"],
    }


def test_findings_do_not_show_the_placeholder_address_of_a_placed_node() -> None:
    case = {
        "base": "placed",
        "set": {
            "recipe": "qwen3-235b-a22b/multi-node",
            "instances.serve.nodes": 2,
            "nic": "eth0",
            "instances.serve.arguments": ["--data-parallel-address", "10.0.0.9"],
        },
    }
    messages = {one.message for one in found(case, "leader-address")}
    assert messages == {
        f"--data-parallel-address is 10.0.0.9, but the first node, serve-{i}-0, has @serve-{i}-0"
        for i in range(2)
    }


def test_no_secret_is_told() -> None:
    case = {"base": "dp", "set": {"instances.serve.overrides.b.arguments": ["--hf-token", "abc"]}}
    (one,) = found(case, "group-uneven")
    assert "***" in one.message
    assert "abc" not in str(one)


def test_a_thousand_nodes_are_checked_in_time() -> None:
    document = copy.deepcopy(BASES["pd"])
    names = [f"n{i}" for i in range(1000)]
    document["nodes"] = {name: f"10.0.{i // 250}.{i % 250 + 1}" for i, name in enumerate(names)}
    document["instances"] = {
        "prefill": {"nodes": names[:400], "replicas": 400},
        "decode": {"nodes": names[400:], "sizes": {"tp": 4, "dp": 2400}},
    }
    document["proxy"]["node"] = "n0"
    reading = read.read_text("cluster.yaml", yaml.safe_dump(document))
    assert reading.cluster is not None
    made = deployment(reading.cluster)
    begin = time.process_time()
    findings = checks.findings(made)
    assert time.process_time() - begin < 2
    assert {one.code for one in findings} == {"kv-key-unread"}
