"""Slips of the finger in files that are right: each is found, at its line, and nothing raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import checks
from clusters.compile import deployment
from clusters.file import read
from common.errors import Finding
from tests import ROOT

DOCUMENT = yaml.safe_load(Path(__file__).with_name("mutations.yaml").read_text())
MUTATIONS = DOCUMENT["mutations"]
TEXTS = {path.stem: path.read_text() for path in (ROOT / "clusters/examples").glob("*.yaml")}
TEXTS["full"] = DOCUMENT["full"]


def found(text: str) -> set[Finding]:
    reading = read.read_text("cluster.yaml", text)
    compiled = checks.findings(deployment(reading.cluster)) if reading.cluster else ()
    return {*reading.findings, *compiled}


@pytest.mark.parametrize("case", MUTATIONS, ids=lambda case: f"{case['code']} {case['edit']}")
def test_each_is_found_at_its_line(case: dict[str, Any]) -> None:
    original = text = TEXTS[case["file"]]
    for old, new in case["edit"].items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    assert case["line"] in text
    line = text[: text.index(case["line"])].count("\n") + 1 if case["line"] else 1
    before = {str(one) for one in found(original)}
    fresh = [one for one in found(text) if str(one) not in before]
    assert (case["code"], line) in {(one.code, one.line) for one in fresh}, [
        str(one) for one in fresh
    ]


def test_nothing_is_wrong_without_a_slip() -> None:
    assert found(TEXTS["full"]) == set()


def test_there_are_a_hundred() -> None:
    assert len({str(case["edit"]) for case in MUTATIONS}) >= 100
