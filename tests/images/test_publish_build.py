"""Building for a publication: into the layout, with labels, and nothing is pushed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from images import build, push
from images.base import FoundBase
from images.matrix import Matrix, Variant
from images.render import Base
from images.site import Site
from images.targets import Options, Target

SAMPLE = Path(__file__).parent / "samples" / "environment.json"


def test_labels_and_architectures_reach_the_bake(
    matrix: Matrix, variant: Callable[..., Variant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baked: list[Mapping[str, Mapping[str, Any]]] = []

    def bake(targets: Mapping[str, Any], *_: object, **__: object) -> dict[str, Any]:
        baked.append(targets)
        for target in targets.values():
            kind, _, where = target["output"][0].partition(",dest=")
            if kind == "type=local":
                Path(where).mkdir(parents=True)
                (Path(where) / "environment.json").write_text(SAMPLE.read_text())
        return {name: {"containerimage.digest": f"sha256:{name}"} for name in targets}

    def nothing(*_: object) -> None:
        pytest.fail("pushed")

    monkeypatch.setattr(build, "bake", bake)
    monkeypatch.setattr(build, "WORK", tmp_path)
    monkeypatch.setattr(push, "LAYOUT", tmp_path / "oci")
    monkeypatch.setattr(push, "push", nothing)
    found = FoundBase(Base("image", image="quay.io/ascend/cann:x"), "sha256:1")
    chosen = [
        Target(one, found, f"registry.example.com/vllm-ascend:{one.tag}", "python")
        for one in (variant("a2"), variant("a3"))
    ]
    options = Options(arches=tuple(matrix.arches.values()), push=True, site=Site())
    labels = {one: {"ascend.inputs": one.variant.platform.name} for one in chosen}
    digests = build.into_layout(matrix, chosen, options, labels, print)

    assert [digests[one] for one in chosen] == ["sha256:v0_13_0rc1", "sha256:v0_13_0rc1-a3"]
    images = baked[-1]
    assert {name: one["labels"] for name, one in images.items()} == {
        "v0_13_0rc1": {"ascend.inputs": "a2"},
        "v0_13_0rc1-a3": {"ascend.inputs": "a3"},
    }
    for one in images.values():
        assert one["platforms"] == ["linux/arm64", "linux/amd64"]
        assert one["output"][0].startswith(f"type=oci,tar=false,dest={tmp_path / 'oci'}")

    alone = dataclasses.replace(options, arches=options.arches[:1])
    build.into_layout(matrix, chosen[:1], alone, {}, print)
    assert "labels" not in baked[-1]["v0_13_0rc1"]
    assert baked[-1]["v0_13_0rc1"]["platforms"] == ["linux/arm64"]
