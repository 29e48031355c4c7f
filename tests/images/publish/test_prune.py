"""Pruning: which temporary tags go, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from images.publish import prune, publish
from images.registry.oci import Manifest
from tests.images.publish.publish_fakes import OCI, FakeRegistry, built, small_release

Problems = Callable[..., list[str]]
NOW = datetime(2026, 1, 5, 10, tzinfo=timezone.utc)
DAY = timedelta(hours=24)


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    """Two published images, and two parts that belong to none: an old one and a young one."""
    made = FakeRegistry()
    layout, images, parts = small_release(tmp_path)
    steps = publish.plan(made, images, built(parts), OCI)
    publish.Publisher(made, layout, OCI, print, now=NOW).publish(steps)
    for hours in (1, 30):
        part = Manifest.made({"schemaVersion": 2, "mediaType": OCI.manifest, "hours": hours})
        when = (NOW - timedelta(hours=hours)).strftime(publish.TIME)
        made.push_manifest(f"tmp-{hours:032}-arm64-{when}", part)
    other = Manifest.made({"schemaVersion": 2, "mediaType": OCI.manifest})
    made.push_manifest("tmp-of-somebody-else", other)
    return made


def _temporary(registry: FakeRegistry) -> list[str]:
    return [tag for tag in registry.tagged if publish.TEMPORARY.fullmatch(tag)]


@pytest.mark.parametrize("deletes_tags", [True, False])
def test_needless_and_old_ones_go(registry: FakeRegistry, deletes_tags: bool) -> None:
    registry.deletes_tags = deletes_tags
    real = registry.real_tags()
    planned = prune.plan(registry, DAY, NOW)
    assert len(planned) == 6
    assert len(prune.prune(registry, planned, print)) == 5
    (left,) = _temporary(registry)
    assert left.startswith(f"tmp-{1:032}")
    assert registry.real_tags() == real
    assert "tmp-of-somebody-else" in registry.tagged
    for digest in real.values():
        assert list(registry.lacks(registry.manifests[digest])) == []


def test_the_reason_is_told(registry: FakeRegistry) -> None:
    whys = sorted(one.why for one in prune.plan(registry, DAY, NOW))
    assert whys[0] == ""
    assert whys[1] == "pushed 30 h ago"
    assert [why.partition("-")[0] for why in whys[2:]] == ["v1"] * 4


def test_a_look_changes_nothing(registry: FakeRegistry) -> None:
    before = dict(registry.tagged)
    prune.plan(registry, DAY, NOW)
    assert registry.tagged == before


def test_a_registry_that_deletes_the_image_with_the_tag(
    registry: FakeRegistry, problems_of: Problems
) -> None:
    def with_image(tag: str) -> bool:
        registry.delete_manifest(registry.tagged[tag])
        return True

    planned = prune.plan(registry, DAY, NOW)
    before = len(registry.manifests)
    registry.delete_tag = with_image  # type: ignore[method-assign]
    needless = [one for one in planned if one.why.endswith("has it")]
    (problem,) = problems_of(lambda: prune.prune(registry, needless, print), 70)
    assert "publish again to restore it" in problem
    assert len(registry.manifests) == before - 1  # it stopped at the first


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("24h", 86400), ("7d", 604800), ("0s", 0)]
)
def test_ages(text: str, seconds: int) -> None:
    assert prune.age(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "1w", "24h "])
def test_no_ages(text: str, problems_of: Problems) -> None:
    (problem,) = problems_of(lambda: prune.age(text), 64)
    assert problem == f"--older: '{text}' is not a time span (30m, 24h or 7d)"
