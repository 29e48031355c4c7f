"""invoke inspect: what is read of images in layouts made by hand and in the engine, and shown."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import text
from images.contents import cache
from images.inspect import diff, diff_output, image_output, reader, stores
from images.inspect.model import Image, Package, brief, shared
from tests.images import hand_made
from tests.images.hand_made import Layout

Read = Callable[..., list[Image]]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is kept of layers stays within a test."""
    directory = tmp_path / "kept"
    monkeypatch.setattr(cache, "CACHE", directory)
    monkeypatch.setattr(stores, "CACHE", directory / "engine")
    return directory


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture
def read() -> Read:
    """reader.read_images, with everything that it says in `said`."""

    def call(*references: str, **options: Any) -> list[Image]:
        said: list[str] = options.pop("said", [])
        return reader.read_images(references, say=said.append, **options)

    return call


@pytest.fixture
def a3(layout: Layout) -> str:
    """The reference of an image like those that are built."""
    return layout.tag("v1-a3", layout.image(hand_made.layers(), **hand_made.config()))


def names(image: Image) -> list[str]:
    return [layer.name for layer in image.layers]


# ---- what is read --------------------------------------------------------------------------------


def test_an_image_and_all_that_it_holds(a3: str, read: Read, layout: Layout) -> None:
    (image,) = read(a3)
    assert (image.reference, image.place, image.platform) == (a3, "layout", "linux/amd64")
    assert image.digest == image.manifest
    assert image.platforms == ("linux/amd64",)
    assert image.pins == {"torch": "2.8.0", "vllm": "0.13.0"}
    assert image.environment["ASCEND_PLATFORM"] == "a3"
    assert image.entrypoint[-1] == "/opt/vllm/bin/entrypoint"
    assert image.health is not None
    assert (image.health.test, image.health.start_period) == (
        ("/opt/vllm/bin/entrypoint", "health"),
        1800.0,
    )
    assert (image.stop_signal, image.workdir) == ("SIGTERM", "/workspace")
    assert image.roles is not None
    assert image.roles[:2] == ("single", "leader")
    assert image.recipes == hand_made.recipes()
    assert image.python_packages is not None
    assert Package("vllm", "0.13.0", "vllm") in image.python_packages
    assert image.os_packages == (
        Package("libc6", "2.36", "base 1"),
        Package("zlib1g", "1.2.13", "base 1"),
    )


def test_sizes_on_the_wire_and_on_disk(a3: str, read: Read, layout: Layout) -> None:
    (image,) = read(a3)
    for layer, files in zip(image.layers, hand_made.layers(), strict=True):
        assert layer.size == layout.layer(files)[0]["size"]
        assert layer.unpacked == len(hand_made.tarball(files))
        assert layer.descriptor.compression == "zstd"
    assert image.unpacked == sum(len(hand_made.tarball(files)) for files in hand_made.layers())


@pytest.mark.parametrize(("packed", "known"), [("gzip", "gzip"), ("", "none")])
def test_other_compressions(layout: Layout, read: Read, packed: str, known: str) -> None:
    descriptor = layout.image(hand_made.layers(), packed=packed, **hand_made.config())
    (image,) = read(layout.tag("v1", descriptor))
    assert {layer.descriptor.compression for layer in image.layers} == {known}
    assert image.budget_key.compression == known
    assert names(image)[-1] == "entrypoint"


@pytest.mark.parametrize("brief", [False, True])
def test_layers_have_the_names_that_the_image_says(a3: str, read: Read, brief: bool) -> None:
    (image,) = read(a3, brief=brief)
    assert names(image) == [
        *("base 1", "venv", "workdir", "torch", "dependencies", "vllm", "vllm-ascend"),
        "entrypoint",
    ]


@pytest.mark.parametrize("said", ["", " ".join(f"layer-{n}" for n in range(9))])
def test_layers_of_an_image_that_says_no_names_have_numbers(
    layout: Layout, read: Read, said: str
) -> None:
    config = hand_made.config()
    config["Labels"]["ascend.layers"] = said
    (image,) = read(layout.tag("v1", layout.image(hand_made.layers(), **config)))
    assert names(image) == [f"layer {n}" for n in range(1, 9)]


def test_what_a_layer_removes_is_gone(layout: Layout, read: Read) -> None:
    site = hand_made.SITE
    made: list[hand_made.Files] = [
        {**hand_made.package("old", "1"), **hand_made.package("kept", "1")},
        {**hand_made.package("new", "2"), f"{site}/.wh.old-1.dist-info": ""},
        {"opt/ascend/env/recipes/a.yaml": "model: a\n"},
        {"opt/ascend/env/recipes/.wh..wh..opq": "", "opt/ascend/env/recipes/b.yaml": "model: b\n"},
    ]
    (image,) = read(layout.tag("v1", layout.image(made)))
    assert image.python_packages is not None
    assert [one.name for one in image.python_packages] == ["kept", "new"]
    assert image.recipes == {"b": "model: b\n"}


def test_what_a_package_carries_within_itself_is_not_installed(layout: Layout, read: Read) -> None:
    inner = hand_made.package("aiohttp", "3.12.14", f"{hand_made.SITE}/ray/thirdparty_files")
    made: list[hand_made.Files] = [{**hand_made.package("aiohttp", "3.13.2"), **inner}]
    (image,) = read(layout.tag("v1", layout.image(made)))
    assert image.python_packages is not None
    assert [one.version for one in image.python_packages] == ["3.13.2"]


def test_a_layer_is_read_once(a3: str, layout: Layout, read: Read) -> None:
    first, said = [], list[str]()
    first = read(a3, said=said)
    assert said == [f"reading 8 layers of {a3}, 0.0 MB"]
    said.clear()
    for layer in first[0].layers:
        (layout.directory / "blobs" / "sha256" / layer.digest[7:]).unlink()
    assert read(a3, said=said) == first
    assert said == []


def test_brief_reads_no_layer(a3: str, layout: Layout, read: Read) -> None:
    (image,) = read(a3, brief=True)
    assert image.python_packages is None
    assert image.recipes is None
    assert image.unpacked is None
    assert image.size > 0
    assert image.pins == {"torch": "2.8.0", "vllm": "0.13.0"}


def test_an_index_of_two_architectures(layout: Layout, read: Read) -> None:
    both = [
        layout.image(hand_made.layers(), arch=arch, **hand_made.config())
        for arch in ("arm64", "amd64")
    ]
    attestation = {**both[0], "platform": {"architecture": "unknown", "os": "unknown"}}
    reference = layout.tag("v1", layout.index([*both, attestation]))
    images = read(reference)
    assert [image.platform for image in images] == ["linux/arm64", "linux/amd64"]
    assert {image.platforms for image in images} == {("linux/arm64", "linux/amd64")}
    assert [image.manifest for image in images] == [one["digest"] for one in both]
    (arm,) = read(reference, arches=["arm64"])
    assert arm == replace(images[0], layers=arm.layers)


def test_shared_layers(layout: Layout, read: Read) -> None:
    tags = [
        layout.tag(name, layout.image(hand_made.layers(name), **hand_made.config(name)))
        for name in ("a2", "a3")
    ]
    images = read(*tags)
    for image, other in zip(images, reversed(images), strict=True):
        alone = [layer.name for layer in image.layers if not layer.shared]
        assert alone == ["vllm-ascend"]
        assert {layer.shared for layer in image.layers if layer.shared} == {(other.title,)}


def test_a_list_of_contents_that_is_attached(layout: Layout, read: Read) -> None:
    image = layout.image(hand_made.layers(), **hand_made.config())
    reference = layout.tag("v1", image)
    layout.attach(image, b'{"spdxVersion": "SPDX-2.3"}', "application/spdx+json")
    layout.attach(image, b"signed", "application/vnd.dev.cosign.simplesigning.v1+json")
    (found,) = read(reference)
    assert [(one.kind, one.content) for one in found.sboms] == [
        ("SPDX", b'{"spdxVersion": "SPDX-2.3"}')
    ]


@pytest.mark.parametrize("bundled", [False, True])
def test_a_list_of_contents_that_is_signed(layout: Layout, read: Read, bundled: bool) -> None:
    image = layout.image(hand_made.layers(), **hand_made.config())
    predicate = {"bomFormat": "CycloneDX"}
    statement = {"predicateType": "https://cyclonedx.org/bom", "predicate": predicate}
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    envelope = {"payloadType": "application/vnd.in-toto+json", "payload": payload}
    if bundled:
        content = json.dumps({"dsseEnvelope": envelope}).encode()
        layout.attach(image, content, "application/vnd.dev.sigstore.bundle.v0.3+json")
    else:
        content = json.dumps(envelope).encode()
        part = layout.artifact(content, "application/vnd.dsse.envelope.v1+json")
        layout.tag(image["digest"].replace(":", "-") + ".att", part)
    (found,) = read(layout.tag("v1", image))
    assert [(one.kind, json.loads(one.content)) for one in found.sboms] == [
        ("CycloneDX, signed", predicate)
    ]


def test_an_attestation_that_is_none(
    layout: Layout, read: Read, problems_of: Callable[..., list[str]]
) -> None:
    image = layout.image(hand_made.layers())
    layout.attach(image, b"[]", "application/vnd.dsse.envelope.v1+json")
    reference = layout.tag("v1", image)
    (problem,) = problems_of(lambda: read(reference), 65)
    assert "is not an attestation" in problem


def test_an_image_of_someone_else(layout: Layout, read: Read) -> None:
    (image,) = read(layout.tag("v1", layout.image([{"etc/hostname": "x"}])))
    assert image.pins == {}
    assert image.health is None
    assert names(image) == ["layer 1"]
    assert image_output.images_text([image])


@pytest.mark.parametrize("text", ["{a: [", "- single\n", "x: " + "[" * 9000, "\x00"])
def test_roles_that_cannot_be_read(layout: Layout, read: Read, text: str) -> None:
    made: list[hand_made.Files] = [{"opt/ascend/env/roles.yaml": text}]
    (image,) = read(layout.tag("v1", layout.image(made)))
    assert image.roles == ()


# ---- in the engine -------------------------------------------------------------------------------


def test_an_image_in_the_engine_is_written_out_once(
    docker: Any, layout: Layout, read: Read, tmp_path: Path
) -> None:
    descriptor = layout.image(hand_made.layers(), **hand_made.config())
    layout.tag("v1", descriptor)
    tar = tmp_path / "saved.tar"
    subprocess.run(["tar", "-cf", str(tar), "-C", str(layout.directory), "."], check=True)
    inspect = "image inspect --format {{.Id}} vllm-ascend:v1"
    docker.answers(inspect, out=f"{descriptor['digest']}\n")
    docker.answers("save vllm-ascend:v1", run=f"cat {tar}")
    said: list[str] = []
    (image,) = read("vllm-ascend:v1", said=said)
    assert (image.reference, image.place) == ("vllm-ascend:v1", "engine")
    assert image.recipes == hand_made.recipes()
    assert read("vllm-ascend:v1") == [image]
    assert docker.calls().count("save vllm-ascend:v1") == 1
    assert said[0] == "reading from the engine: vllm-ascend:v1"


# ---- what is refused -----------------------------------------------------------------------------


def test_every_reference_that_is_nowhere(
    docker: Any, layout: Layout, a3: str, read: Read, problems_of: Callable[..., list[str]]
) -> None:
    docker.answers("image inspect *", err="No such image", code=1)
    wrong = [f"{layout.directory}:v1-a2", "vllm-ascend:v9", "--arch"]
    assert problems_of(lambda: read(a3, *wrong), 69) == [
        f"{layout.directory}:v1-a2: is not in the layout (did you mean v1-a3?)",
        "vllm-ascend:v9: is neither in the engine nor a layout (docker images; a registry's image "
        "is named REGISTRY/NAME:TAG)",
        "IMAGE: '--arch' is not an image (invoke inspect --help)",
    ]


@pytest.mark.parametrize(
    ("at", "code", "problem"),
    [
        ("engin", 64, "--at: 'engin' is not known (did you mean engine?)"),
        ("layout", 64, "x:1: is not an OCI layout (DIR, DIR:TAG or DIR@DIGEST)"),
        ("engine", 69, "x:1: is not in the engine (docker images lists what it has)"),
    ],
)
def test_where_it_is_looked_for(
    docker: Any, read: Read, problems_of: Callable[..., list[str]], at: str, code: int, problem: str
) -> None:
    docker.answers("image inspect *", err="No such image", code=1)
    assert problems_of(lambda: read("x:1", at=at), code) == [problem]


def test_a_layout_with_several_tags_needs_one(
    layout: Layout, a3: str, read: Read, problems_of: Callable[..., list[str]]
) -> None:
    assert read(str(layout.directory))[0].reference == str(layout.directory)
    layout.tag("v2", layout.image(hand_made.layers(), **hand_made.config()))
    where = str(layout.directory)
    assert problems_of(lambda: read(where), 64) == [
        f"{where}: has 2 tags ({where}:TAG of v1-a3, v2, or @DIGEST)"
    ]


def test_an_architecture_that_it_has_not(
    a3: str, read: Read, problems_of: Callable[..., list[str]]
) -> None:
    assert problems_of(lambda: read(a3, arches=["arm64"]), 64) == [
        f"{a3}: has no arm64 image (it has amd64)"
    ]


def test_a_damaged_layer(
    a3: str, layout: Layout, read: Read, problems_of: Callable[..., list[str]]
) -> None:
    digest = read(a3, brief=True)[0].layers[3].digest
    path = layout.directory / "blobs" / "sha256" / digest[7:]
    path.write_bytes(path.read_bytes()[:-20])
    (problem,) = problems_of(lambda: read(a3), 65)
    assert digest[:19] in problem


# ---- what is different ---------------------------------------------------------------------------


def test_the_same_image() -> None:
    found = diff.difference(hand_made.image(), hand_made.image())
    assert "the same image" in diff_output.differences_text([found])


def test_what_changed() -> None:
    old = hand_made.image()
    new = hand_made.image(
        manifest=hand_made.digest("other"),
        labels={**hand_made.labels(), "ascend.pin.vllm": "0.13.1", "ascend.fallback.x": "yes"},
        layers=(
            *old.layers[:2],
            hand_made.layer("vllm", 10_083_400, "other"),
            hand_made.layer("proxy", 10_205),
        ),
        python_packages=(Package("torch", "2.8.0", "torch"), Package("ray", "2.48", "x")),
        environment={**hand_made.environment(), "LCCL_PARALLEL": "0", "SOC_VERSION": ""},
        stop_signal="SIGINT",
        recipes={**hand_made.recipes(), "mine": "model: x\n", "qwen3-235b-a22b/ray": "model: y\n"},
    )
    (found,) = diff.differences([old], [new])
    assert [vars(one) for one in found.pins] == [
        {"name": "vllm", "before": "0.13.0", "after": "0.13.1"}
    ]
    assert [(one.name, one.before, one.after) for one in found.layers] == [
        ("vllm", 9_083_400, 10_083_400),
        ("entrypoint", 239_108, None),
        ("proxy", None, 10_205),
    ]
    assert found.python_packages is not None
    assert [(one.name, one.before, one.after) for one in found.python_packages] == [
        ("ray", None, "2.48"),
        ("vllm", "0.13.0", None),
    ]
    text = diff_output.differences_text([found])
    lines = [line.split() for line in text.splitlines()]
    for line in (
        "compressed 857.9 MB 858.7 MB +0.8 MB",
        "vllm 9.1 MB 10.1 MB +1.0 MB",
        "entrypoint 0.2 MB - gone",
        "proxy - 10.2 kB added",
        'SOC_VERSION ascend910_9391 ""',
        "LCCL_PARALLEL - 0",
        "stop signal SIGTERM SIGINT",
        "qwen3-235b-a22b/ray there changed",
        "mine - there",
        "ascend.fallback.x - yes",
    ):
        assert line.split() in lines, f"{line}\n{text}"
    assert "OS package" not in text
    json.dumps(diff_output.differences_data([found]))


def test_images_of_different_architectures(problems_of: Callable[..., list[str]]) -> None:
    pair = [hand_made.image()], [hand_made.image("a2", "arm64")]
    assert problems_of(lambda: diff.differences(*pair), 64) == [
        "--diff: registry.example.com/team/vllm-ascend:v0.13.0rc1-a3 is for linux/amd64, "
        "registry.example.com/team/vllm-ascend:v0.13.0rc1 for linux/arm64 (two images of one "
        "architecture)"
    ]


def test_a_difference_of_what_was_not_read() -> None:
    unread: dict[str, Any] = {"python_packages": None, "os_packages": None, "recipes": None}
    found = diff.difference(hand_made.image(**unread, manifest="sha256:0"), hand_made.image())
    assert found.python_packages is None
    assert "Python packages: not read" in diff_output.differences_text([found])


# ---- what is shown -------------------------------------------------------------------------------


def test_text_and_data() -> None:
    images = shared([hand_made.image(), hand_made.image("a2")])
    text = image_output.images_text(images)
    for line in (
        "registry.example.com/team/vllm-ascend:v0.13.0rc1-a3 (linux/amd64)",
        "  pins        torch 2.8.0, vllm 0.13.0",
        "  stops on    SIGTERM",
        "  torch         793.1 MB  2,379.2 MB  "
        f"{images[0].layers[1].digest[:19]}  vllm-ascend:v0.13.0rc1 (linux/amd64)",
        "  shared        857.7 MB",
        "  libc6       2.36     base 1",
    ):
        assert line in text.splitlines(), f"{line}\n{text}"
    data = json.loads(json.dumps(image_output.images_data(images)))
    assert data[0]["layers"][3]["shared"] == []
    assert data[0]["roles"][0] == "single"
    assert data[1]["size"] == images[1].size


def test_a_small_layer_has_a_size() -> None:
    assert [text.short_size(size) for size in (None, 16, 308, 100_000)] == [
        *("-", "16 B", "0.3 kB", "0.1 MB")
    ]


def test_a_title_without_its_registry() -> None:
    assert brief("r.example.com:5000/team/x:1 (linux/arm64)") == "x:1 (linux/arm64)"
