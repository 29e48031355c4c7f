"""What was built: an image is up to date only if its inputs and the engine both say so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images.build import records
from images.build.base import FoundBase
from images.build.compressed_size import CompressedSize
from images.build.options import Options
from images.build.records import Built, Layer
from images.build.render import Base
from images.build.targets import BuildTarget
from images.matrix import STAND_IN, Matrix, Variant
from images.registry.oci import MEDIA_TYPES, Manifest

DIGEST = "sha256:" + 64 * "1"
PRINTS = {"layer-torch": "t" * 64, "image": "i" * 64}
TAG = "vllm-ascend:v0.13.0rc1-a3-standin"
BUILT = Built(
    TAG,
    DIGEST,
    (Layer("venv", "sha256:2", 5, 1.5), Layer("torch", "sha256:3", None, 0.0)),
    (CompressedSize("arm64", "zstd", {"venv": 3, "torch": 7}),),
)
INSPECT = f"image inspect --format {{{{.Id}}}} {TAG}"


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The records' own place, empty."""
    monkeypatch.setattr(records, "WORK", tmp_path / "build")
    monkeypatch.setattr(records, "BUILT", tmp_path / "build" / "built")
    return tmp_path / "build" / "built"


@pytest.fixture
def target(matrix: Matrix, variant: Callable[..., Variant]) -> BuildTarget:
    options = Options(arches=(matrix.arch("arm64"),))
    return BuildTarget(matrix, variant("a3"), FoundBase(Base(STAND_IN), "s"), TAG, None, options)


def with_options(target: BuildTarget, **changes: Any) -> BuildTarget:
    return replace(target, options=replace(target.options, **changes))


@pytest.fixture
def remembered(target: BuildTarget, built: Path) -> Path:
    records.save(target, PRINTS, BUILT)
    (path,) = built.iterdir()
    return path


@pytest.mark.usefixtures("remembered")
def test_the_same_inputs_and_the_same_image(docker: Any, target: BuildTarget) -> None:
    docker.answers(INSPECT, out=f"{DIGEST}\n")
    found = records.up_to_date(target, PRINTS["image"])
    assert found == replace(BUILT, up_to_date=True)


@pytest.mark.usefixtures("remembered")
def test_other_inputs(docker: Any, target: BuildTarget) -> None:
    docker.answers(INSPECT, out=f"{DIGEST}\n")
    assert records.up_to_date(target, "another") is None


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize(
    "answer", [{"out": "sha256:another\n"}, {"out": ""}, {"err": "No such image", "code": 1}]
)
def test_another_image_under_the_tag_or_none(
    docker: Any, target: BuildTarget, answer: dict[str, Any]
) -> None:
    docker.answers(INSPECT, **answer)
    assert records.up_to_date(target, PRINTS["image"]) is None


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("change", [{"push": True}, {"builder": "remote"}])
def test_what_lies_elsewhere_is_never_known_to_be_up_to_date(
    docker: Any, target: BuildTarget, change: dict[str, Any]
) -> None:
    docker.answers(INSPECT, out=f"{DIGEST}\n")
    elsewhere = with_options(target, **change)
    records.save(elsewhere, PRINTS, BUILT)
    assert records.up_to_date(elsewhere, PRINTS["image"]) is None


@pytest.mark.usefixtures("remembered")
def test_another_architecture_or_tag_has_its_own_record(
    docker: Any, matrix: Matrix, target: BuildTarget
) -> None:
    docker.answers("image inspect *", out=f"{DIGEST}\n")
    both = target.for_arches([matrix.arch("arm64"), matrix.arch("amd64")])
    assert records.up_to_date(both, PRINTS["image"]) is None
    pushed = replace(target, tag=f"registry.example.com/team/{TAG}")
    assert records.up_to_date(pushed, PRINTS["image"]) is None


def test_nothing_was_built_yet(docker: Any, target: BuildTarget) -> None:
    assert records.up_to_date(target, PRINTS["image"]) is None
    assert records.built_before(target.options) == set()
    assert docker.calls() == []


def test_an_image_without_a_digest_is_never_up_to_date(docker: Any, target: BuildTarget) -> None:
    docker.answers(INSPECT, out="\n")
    records.save(target, PRINTS, replace(BUILT, digest=""))
    assert records.up_to_date(target, PRINTS["image"]) is None


BROKEN = [
    "",
    '{"stages": {"ima',
    "[]",
    "null",
    "{}",
    '{"stages": {}, "digest": "x", "layers": []}',
    json.dumps({"stages": PRINTS, "digest": DIGEST}),
    json.dumps({"stages": PRINTS, "digest": DIGEST, "layers": [{"title": "torch"}]}),
    json.dumps({"stages": PRINTS, "digest": DIGEST, "layers": []}),
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_record_is_as_none(
    docker: Any, target: BuildTarget, remembered: Path, text: str
) -> None:
    docker.answers(INSPECT, out=f"{DIGEST}\n")
    remembered.write_text(text)
    assert records.up_to_date(target, PRINTS["image"]) is None


@pytest.mark.parametrize("text", BROKEN[:5])
def test_a_broken_record_hides_no_other(target: BuildTarget, remembered: Path, text: str) -> None:
    remembered.write_text(text)
    records.save(replace(target, tag="vllm-ascend:other"), {"image": "o"}, BUILT)
    assert records.built_before(target.options) == {"o"}


def test_what_was_built_before_is_told_by_builder(target: BuildTarget) -> None:
    remote = with_options(target, builder="remote")
    records.save(target, PRINTS, BUILT)
    records.save(remote, {"image": "remote"}, BUILT)
    assert records.built_before(target.options) == set(PRINTS.values())
    assert records.built_before(remote.options) == {"remote"}


def test_a_record_is_replaced_as_a_whole(target: BuildTarget, remembered: Path) -> None:
    records.save(target, {"image": "n"}, BUILT)
    assert [path.name for path in remembered.parent.iterdir()] == [remembered.name]
    assert records.built_before(target.options) == {"n"}


# ---- layers --------------------------------------------------------------------------------------

HISTORY = """\
0\tENTRYPOINT ["/opt/vllm/bin/dumb-init" "--" "/opt/vllm/bin/entrypoint"]
0\tHEALTHCHECK &{["CMD" "/opt/vllm/bin/entrypoint" "health"] "30s" "10s" "30m0s" "0s" '\\x03'}
0\tLABEL ascend.platform=a3
0\tENV ASCEND_PLATFORM=a3
397312\tCOPY /out/ / # buildkit
5488640\tCOPY /out/ / # buildkit
73728\tCOPY /out/ / # buildkit
42647552\tCOPY /out/ / # buildkit
170364928\tCOPY /out/ / # buildkit
73400320\tCOPY /out/ / # buildkit
642043904\tCOPY /out/ / # buildkit
1130496000\tCOPY /out/ / # buildkit
2047635456\tCOPY /out/ / # buildkit
0\tWORKDIR /workspace
20480\tCOPY /out/ / # buildkit
0\tENV PATH=/usr/bin
57344\tCOPY /out/ / # buildkit
516096\tCOPY /out/ / # buildkit
197410816\tADD base-arm64.tar / # buildkit
0\tARG TARGETARCH
"""
LAYERS = [f"sha256:{number}" for number in range(14)]
ZSTD, TAR = (f"application/vnd.oci.image.layer.v1.tar{packed}" for packed in ("+zstd", ""))
MANIFEST = Manifest.made(
    {
        "mediaType": MEDIA_TYPES["oci"].manifest,
        "layers": [
            {"mediaType": ZSTD if n else TAR, "digest": digest, "size": 100 + n}
            for n, digest in enumerate(LAYERS)
        ],
    }
)


NAMES = ["base 1", "base 2", "base 3", "venv", "workdir", "torch", "libraries", "dependencies",
         "utilities", "mooncake", "vllm", "proxy", "vllm-ascend", "entrypoint"]  # fmt: skip


def test_layers_are_named_after_what_they_hold(docker: Any, target: BuildTarget) -> None:
    docker.answers("history *", out=HISTORY)
    docker.answers("image inspect --format {{json .RootFS.Layers}} *", out=json.dumps(LAYERS))
    seconds = {"layer-torch": 12.5, "tools": 3.0}
    found = records.describe(target, DIGEST, {"arm64": MANIFEST}, seconds)
    assert [layer.name for layer in found.layers] == NAMES
    assert [layer.digest for layer in found.layers] == LAYERS
    assert {layer.name: layer.size for layer in found.layers} == {
        "base 1": 197410816,
        "base 2": 516096,
        "base 3": 57344,
        "venv": 20480,
        "workdir": 0,
        "torch": 2047635456,
        "libraries": 1130496000,
        "dependencies": 642043904,
        "utilities": 73400320,
        "mooncake": 170364928,
        "vllm": 42647552,
        "proxy": 73728,
        "vllm-ascend": 5488640,
        "entrypoint": 397312,
    }
    assert {layer.name: layer.seconds for layer in found.layers if layer.seconds} == {"torch": 12.5}
    assert found.size == sum(layer.size or 0 for layer in found.layers)
    (size,) = found.sizes
    assert (size.arch, size.compression) == ("arm64", "zstd")
    assert size.layers == {name: 100 + n for n, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    "history",
    [
        {"err": "no such image for this platform", "code": 1},
        {"out": re.sub(r"(?m)^\d+\t", "0\t", HISTORY)},
    ],
    ids=["no history", "a history without sizes"],
)
def test_an_image_that_is_kept_packed_has_no_sizes(
    docker: Any, target: BuildTarget, history: dict[str, Any]
) -> None:
    docker.answers("history *", **history)
    docker.answers("image inspect --format {{json .RootFS.Layers}} *", out=json.dumps(LAYERS))
    found = records.describe(target, DIGEST, {}, {})
    assert [(layer.name, layer.size) for layer in found.layers] == [(name, None) for name in NAMES]
    assert found.size == 0


def test_a_pushed_image_is_as_its_manifests_say(target: BuildTarget) -> None:
    """Its layers are those of the first, its sizes are of all."""
    other = Manifest.made({**MANIFEST.document, "layers": MANIFEST.document["layers"][:-1]})
    manifests = {"arm64": MANIFEST, "amd64": other}
    found = records.describe(with_options(target, push=True), DIGEST, manifests, {})
    assert [(layer.name, layer.digest, layer.size) for layer in found.layers] == [
        (name, digest, 100 + n) for n, (name, digest) in enumerate(zip(NAMES, LAYERS, strict=True))
    ]
    assert [(one.arch, one.total) for one in found.sizes] == [("arm64", 1491), ("amd64", 1378)]


def test_an_image_that_is_not_found_is_known_by_its_digest(
    docker: Any, target: BuildTarget
) -> None:
    docker.answers("*", err="No such image", code=1)
    found = records.describe(target, DIGEST, {}, {})
    assert found == Built(TAG, DIGEST, ())
