"""env/known_issues.yaml: conditions that exist, and something to do where a plan is warned."""

from __future__ import annotations

import re
from typing import Any

import pytest

from entrypoints.inputs import data
from entrypoints.rules.known_issues import CONDITIONS

RELEASES = data.read(data.path_of("known_issues.yaml"))["releases"]
ISSUES = [
    pytest.param(one, id=f"{release}-{i}")
    for release, issues in RELEASES.items()
    for i, one in enumerate(issues)
]


def test_every_release_of_vllm_ascend_has_its_issues() -> None:
    assert set(RELEASES) == {one for one in data.names("releases") if one.startswith("v")}


@pytest.mark.parametrize("issue", ISSUES)
def test_an_entry(issue: dict[str, Any]) -> None:
    assert set(issue) - {"when", "fix"} == {"issue", "source"}
    assert re.fullmatch(r"vllm-ascend v[\d.]+(post\d+)?: \S+release_notes\.md:\d+", issue["source"])
    assert set(issue.get("when", {})) <= set(CONDITIONS)
    assert bool(issue.get("when")) == bool(issue.get("fix"))
