"""What an SBOM says, and that it says it in the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from images import labels
from images.attestations import sbom
from images.build import render
from images.build.render import Base
from images.contents.packages import packages
from images.locking.slices import LOCKS
from images.matrix import CPU
from tests.images.hand_made import Layout
from tests.images.small_images import A2, A3, BASE_DIGEST, MATRIX, SITE, Small, index, package, pair
from tests.images.small_registry import filled, image


def document(directory: Path, small: Small, base: str = "") -> dict[str, Any]:
    made: dict[str, Any] = json.loads(sbom.document(MATRIX, image(directory, small), base))
    return made


def component(made: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in made["components"] if one["name"] == name)
    return dict(found)


def properties(one: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in one.get("properties", [])}


def stand_in() -> dict[str, str]:
    return render.labels(MATRIX, A3, Base("stand-in"))


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    one = sbom.document(MATRIX, image(tmp_path / "one", Small()))
    two = sbom.document(MATRIX, image(tmp_path / "two", Small()))
    assert one == two
    assert sbom.invalid(json.loads(one)) == ""
    assert json.loads(one)["metadata"]["timestamp"] == "2025-12-28T00:00:00+00:00"


def test_another_image_has_another_serial_number(tmp_path: Path) -> None:
    numbers = {
        document(tmp_path / name, small)["serialNumber"]
        for name, small in {"a": Small(), "b": Small(arch="amd64"), "c": Small(variant=A2)}.items()
    }
    assert len(numbers) == 3


def test_it_is_about_the_image_by_digest(tmp_path: Path) -> None:
    read = image(tmp_path, Small())
    text = sbom.document(MATRIX, read)
    assert sbom.subject(json.loads(text)) == read.manifest.digest
    about = json.loads(text)["metadata"]["component"]
    assert about["purl"].startswith(
        f"pkg:oci/vllm-ascend@{read.manifest.digest}".replace(":s", "%3As")
    )
    assert properties(about)["ascend:platform"] == "a3"


def test_python_packages_have_the_hashes_that_the_lock_admits(tmp_path: Path) -> None:
    made = document(tmp_path, Small())
    torch = component(made, "torch")
    lock = (LOCKS / "v0.13.0rc1/arm64/torch.txt").read_text()
    own = lock.partition("torch==2.8.0")[2].partition("torch-npu==")[0]
    assert torch["purl"] == "pkg:pypi/torch@2.8.0"
    assert torch["hashes"]
    assert all(one["alg"] == "SHA-256" and one["content"] in own for one in torch["hashes"])
    assert properties(torch)["ascend:lock"] == "v0.13.0rc1/arm64/torch.txt"
    vllm = component(made, "vllm")
    assert (vllm["version"], len(vllm["hashes"])) == ("0.13.0+empty", 1)


def test_an_image_without_npus_has_its_own_lock(tmp_path: Path) -> None:
    variant = MATRIX.variant(None, CPU, "", "0.13.0")
    told = render.labels(MATRIX, variant, Base("debian"))
    small = Small(labels={**told, labels.BASE_DIGEST: f"sha256:{64 * '0'}"})
    small.layers[1] = package("torch", "2.9.1")
    torch = component(document(tmp_path / "good", small), "torch")
    assert properties(torch)["ascend:lock"] == "cpu-0.13.0/arm64/torch.txt"
    assert torch["hashes"]
    small.labels["ascend.pin.vllm"] = "0.1"
    with pytest.raises(UserError, match=r"'0\.1', which is not a vLLM for the CPU"):
        sbom.document(MATRIX, image(tmp_path / "bad", small))


def test_what_is_compiled_has_no_hash_of_the_lock(tmp_path: Path) -> None:
    compiled = component(document(tmp_path / "cann", Small()), "vllm-ascend")
    assert "hashes" not in compiled
    assert properties(compiled)["ascend:origin"] == sbom.COMPILED
    wheel = component(document(tmp_path / "none", Small(labels=stand_in())), "vllm-ascend")
    assert wheel["hashes"]


def test_another_version_than_the_locked_one_has_no_hash(tmp_path: Path) -> None:
    small = Small()
    small.layers[1] = package("torch", "2.7.1")
    assert "hashes" not in component(document(tmp_path, small), "torch")


def test_a_copy_inside_another_package_is_listed_with_its_place(tmp_path: Path) -> None:
    small = Small()
    small.layers.append(package("torch", "2.8.0", directory=f"{SITE}/ray/thirdparty"))
    found = [one for one in document(tmp_path, small)["components"] if one["name"] == "torch"]
    assert {properties(one)["ascend:directory"] for one in found} == {
        f"/{SITE}",
        f"/{SITE}/ray/thirdparty",
    }
    assert len({one["bom-ref"] for one in found}) == 2
    assert sum("hashes" in one for one in found) == 1


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("License-Expression: MIT OR Apache-2.0\n", [{"expression": "MIT OR Apache-2.0"}]),
        ("License: Apache-2.0\n", [{"license": {"id": "Apache-2.0"}}]),
        ("License: My own terms\n", [{"license": {"name": "My own terms"}}]),
        (
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: BSD License\n",
            [{"license": {"name": "BSD License"}}],
        ),
        (
            "License: Permission is granted\n        to all\n"
            "Classifier: License :: OSI Approved :: MIT License\n"
            "Classifier: License :: OSI Approved\n"
            "Classifier: License :: Public Domain\n",
            [{"license": {"name": "MIT License"}}, {"license": {"name": "Public Domain"}}],
        ),
        ("Classifier: Topic :: Software\n", None),
    ],
)
def test_licences_come_from_the_metadata(
    tmp_path: Path, metadata: str, said: list[dict[str, Any]] | None
) -> None:
    small = Small()
    small.layers.append(package("one", "1", metadata=metadata))
    assert component(document(tmp_path, small), "one").get("licenses") == said


def test_the_distribution_and_its_packages(tmp_path: Path) -> None:
    made = document(tmp_path, Small())
    assert component(made, "ubuntu")["version"] == "22.04"
    libc = component(made, "libc6")
    assert libc["purl"] == (
        "pkg:deb/ubuntu/libc6@2.35-0ubuntu3?arch=arm64&distro=ubuntu-22.04&upstream=glibc"
    )
    assert "gone" not in {one["name"] for one in made["components"]}


def test_cann_mooncake_and_the_base(tmp_path: Path) -> None:
    made = document(tmp_path, Small())
    assert component(made, "cann")["purl"] == "pkg:generic/ascend/cann@8.3.rc2"
    mooncake = component(made, "mooncake")
    assert (mooncake["version"], properties(mooncake)["ascend:origin"]) == (
        A3.release.mooncake.version,
        sbom.COMPILED,
    )
    base = component(made, "quay.io/ascend/cann")
    assert base["version"] == A3.cann_tag
    assert base["hashes"] == [{"alg": "SHA-256", "content": BASE_DIGEST}]
    assert sbom.base(made) == f"sha256:{BASE_DIGEST}"


def test_mooncake_as_a_package_is_listed_once(tmp_path: Path) -> None:
    small = Small(labels=stand_in())
    small.layers.append(package("mooncake-transfer-engine", A3.release.mooncake.version))
    names = [one["name"] for one in document(tmp_path, small)["components"]]
    assert "mooncake" not in names
    assert names.count("mooncake-transfer-engine") == 1


def test_a_stand_in_does_not_claim_to_hold_cann(tmp_path: Path) -> None:
    made = document(tmp_path, Small(labels=stand_in()))
    assert "no CANN is in here" in properties(component(made, "cann"))["ascend:stand-in"]
    assert "quay.io/ascend/cann" not in {one["name"] for one in made["components"]}


def test_the_base_has_the_digest_that_the_provenance_names(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    smalls = pair()
    for small in smalls:
        del small.labels[labels.BASE_DIGEST]
    root = index(layout, smalls)
    registry = filled(tmp_path)
    made = sbom.documents(MATRIX, registry, registry.manifests[root["digest"]], (), print)
    assert list(made) == ["arm64", "amd64"]
    for manifest, text in made.values():
        assert sbom.subject(json.loads(text)) == manifest.digest
        assert BASE_DIGEST in text


@pytest.mark.parametrize(
    ("small", "what"),
    [
        (Small(labels={"a": "b"}), "the label of the release says ''"),
        (Small(created="yesterday"), "'created' is 'yesterday', no time"),
    ],
)
def test_an_image_of_someone_else(tmp_path: Path, small: Small, what: str) -> None:
    with pytest.raises(UserError, match=what) as refused:
        document(tmp_path, small)
    assert refused.value.exit_code == 65


def test_a_broken_document_is_told() -> None:
    broken = {"type": "not-a-type", "name": "x"}
    made = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [broken]}
    assert "'not-a-type'" in sbom.invalid(made)


def test_written_and_printed(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    root = index(layout, pair())
    registry = filled(tmp_path / "layout")
    made = sbom.documents(MATRIX, registry, registry.manifests[root["digest"]], (), print)
    paths = sbom.write(made, tmp_path / "out")
    assert [path.name for path in paths] == ["arm64.cdx.json", "amd64.cdx.json"]
    assert paths[0].read_text() == made["arm64"][1]
    with pytest.raises(UserError, match="the image has arm64, amd64"):
        sbom.only(made)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        sbom.write(made, tmp_path / "file" / "out")


def test_small_images_are_whole(tmp_path: Path) -> None:
    names = {one.name for one in packages(image(tmp_path, Small()).contents)}
    assert names == {"torch", "torch-npu", "triton-ascend", "vllm", "vllm-ascend"}
