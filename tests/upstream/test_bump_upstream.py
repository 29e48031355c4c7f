"""A bump by upstream's own files, from the package index: what is committed comes out again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests import ROOT
from tests.upstream.sample_releases import bump
from upstream.bump import bump_release, pins_file, upload_dates
from upstream.sources import Sources

pytestmark = pytest.mark.e2e


def _derived(pins: Path) -> list[str]:
    """The lines that a bump writes: neither those by hand, nor the key above them."""
    lines = pins.read_text().splitlines()
    return [line for line in lines if "# by hand" not in line and line != "vendor:"]


@pytest.mark.parametrize("release", ["v0.13.0", "v0.15.0rc1", "v0.18.0", "v0.23.0.post1"])
def test_a_release_taken_out_and_bumped_back_is_what_it_was(tmp_path: Path, release: str) -> None:
    pins = Path("images") / "releases" / f"{release}.yaml"
    sources = Sources.of(release)
    ours = dataclasses.replace(
        bump(tmp_path, sources), sources=lambda _: sources, uploads=upload_dates.derive
    )
    (tmp_path / pins).unlink()
    done = bump_release.run(ours, release, locking=False, dry=False, say=print)
    assert _derived(tmp_path / pins) == _derived(ROOT / pins)
    assert {step.name: step.outcome for step in done.steps}["pairs"] == "unchanged"
    assert "pairs" not in [one.key for one in done.decisions]
    assert done.contradictions


def test_what_upstream_does_not_say_is_kept(tmp_path: Path) -> None:
    """v0.13.0rc1 names no triton_ascend: the committed one is a person's."""
    pins = Path("images") / "releases" / "v0.13.0rc1.yaml"
    sources = Sources.of("v0.13.0rc1")
    ours = dataclasses.replace(
        bump(tmp_path, sources), sources=lambda _: sources, uploads=upload_dates.derive
    )
    done = bump_release.run(ours, "v0.13.0rc1", locking=False, dry=False, say=print)
    assert [line.key for line in done.kept] == ["triton_ascend"]
    assert (tmp_path / pins).read_text() == (ROOT / pins).read_text()
    assert pins_file.read(tmp_path / pins)["later"].value.keys() == {"triton-ascend"}
