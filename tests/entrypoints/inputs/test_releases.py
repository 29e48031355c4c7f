"""Releases that the matrix lacks: whose facts hold for them, and what an unknown name is told."""

from __future__ import annotations

import pytest

from entrypoints import library
from entrypoints.findings import Finding
from entrypoints.inputs import releases, stack

KNOWN = ["cpu-0.32.0", "v0.11.0", "v0.13.0", "v0.13.0rc1", "v0.15.0rc1", "v0.18.0", "v0.23.0.post1"]


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("v0.18.0", "v0.18.0"),
        ("v0.19.1rc1", "v0.18.0"),
        ("v0.18.0.post2", "v0.18.0"),
        ("v0.18.0rc1", "v0.15.0rc1"),
        ("v0.13.0rc2", "v0.13.0rc1"),
        ("v0.13.0rc1.dev5", "v0.13.0rc1"),
        ("v0.23.0", "v0.23.0.post1"),
        ("v0.23.0rc1", "v0.18.0"),
        ("v0.30.0rc2", "v0.23.0.post1"),
        ("v0.30.0.dev20260901", "v0.23.0.post1"),
        ("nightly-main", "v0.23.0.post1"),
        ("cpu-0.32.0", "cpu-0.32.0"),
        ("v0.9.0rc1", ""),
        ("v0.20.0", ""),
        ("v9", ""),
        ("latest", ""),
        ("", ""),
    ],
)
def test_whose_facts_hold(name: str, facts: str) -> None:
    assert releases.facts_of(name, KNOWN) == facts


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("v0.19.1", "v0.18.0"),
        ("v0.13.1", "v0.13.0"),
        ("v0.13", "v0.13.0"),
        ("cpu-0.32", "cpu-0.32.0"),
    ],
)
def test_what_an_unknown_release_may_mean(name: str, near: str) -> None:
    fix = releases.meant(name, KNOWN)
    assert fix.startswith(f"did you mean {near}?")
    assert "v0.11.0, v0.13.0rc1, v0.13.0, v0.15.0rc1" in fix


def test_recipes_for_a_release_between_others() -> None:
    found = library.find(release="v0.19.1rc1")
    assert [one.recipe.name for one in found] == [
        one.recipe.name for one in library.find(release="v0.18.0")
    ]


def test_a_release_between_others_has_their_facts_and_a_warning() -> None:
    findings: list[Finding] = []
    found = stack.release("v0.13.0rc9", findings)
    assert found is not None
    assert (found.name, found.facts) == ("v0.13.0rc9", "v0.13.0rc1")
    assert [(one.code, one.severity) for one in findings] == [("nearest-release", "warning")]
    assert "v0.13.0rc1" in findings[0].message
