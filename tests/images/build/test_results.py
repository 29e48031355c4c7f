"""What the commands print."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from common.text import table
from images.build import results
from images.build.build import Planned
from images.build.compressed_size import CompressedSize
from images.build.records import Built, Layer
from images.matrix import Matrix

BUILT = Built(
    "vllm-ascend:x",
    "sha256:" + 64 * "a",
    (
        Layer("torch", "sha256:" + 64 * "b", 2_047_635_456, 12.34),
        Layer("venv", "sha256:" + 64 * "c", None, 0.0),
    ),
    (CompressedSize("arm64", "zstd", {"venv": 300, "torch": 793_000_000}),),
)


def test_columns_stand_below_each_other() -> None:
    assert table([("a", "size"), ("long", "1")], right=(1,)) == "a     size\nlong     1"
    assert table([("long", "x"), ("a", "")]) == "long  x\na"


def test_a_built_image_as_a_table() -> None:
    tag, digest, head, *rows, total, wire = results.built_text([BUILT]).splitlines()
    assert tag == BUILT.tag
    assert digest == f"  {BUILT.digest}"
    assert head.split() == ["layer", "size", "made", "in", "digest"]
    assert [row.split() for row in rows] == [
        ["torch", "2,047.6", "MB", "12.3", "s", "sha256:" + 12 * "b"],
        ["venv", "-", "-", "sha256:" + 12 * "c"],
    ]
    assert total.split() == ["total", "2,047.6", "MB"]
    assert wire == "  compressed, arm64: 793.0 MB"


def test_a_built_image_whose_manifests_are_not_known() -> None:
    *_, last = results.built_text([replace(BUILT, sizes=())]).splitlines()
    assert (
        last == "  compressed: unknown (the engine cannot push to this machine); budget not checked"
    )


def test_a_built_image_as_data() -> None:
    (data,) = json.loads(json.dumps(results.built_data([BUILT])))
    assert data["size"] == 2_047_635_456
    assert data["compressed"] == {"arm64": 793_000_300}
    assert data["layers"][1] == {
        "name": "venv",
        "digest": "sha256:" + 64 * "c",
        "size": None,
        "seconds": 0.0,
    }
    assert data["up_to_date"] is False


@pytest.mark.parametrize("up_to_date", [False, True])
def test_a_plan(up_to_date: bool) -> None:
    stages = (("tools", True), ("layer-torch", False))
    planned = Planned("x:y", "a stand-in", ("arm64",), {"torch": "2.8.0"}, stages, up_to_date)
    assert results.plan_text([planned]).splitlines() == [
        "x:y  (arm64)" + ("  up to date" if up_to_date else ""),
        "  base    a stand-in",
        "  pins    torch 2.8.0",
        "  cached  tools",
        "  build   layer-torch",
    ]
    (data,) = results.plan_data([planned])
    assert data["stages"] == [
        {"name": "tools", "cached": True},
        {"name": "layer-torch", "cached": False},
    ]


def test_the_matrix_as_a_table(matrix: Matrix) -> None:
    head, *rows = results.matrix_text(results.matrix_data(matrix, None)).splitlines()
    assert head.split()[:3] == ["tag", "CANN", "base"]
    assert head.split()[3:] == list(matrix.releases["v0.23.0.post1"].pins)
    assert len(rows) == sum(len([*matrix.variants(name)]) for name in matrix.releases)
    assert {row.index("quay.io/") for row in rows} == {head.index("CANN base")}
