"""sbom, sign and check with a real registry and cosign: a good image passes, spoilt ones do not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from images.attestations import sbom, sign
from images.attestations.sign import Signer
from images.contents.image import manifests
from images.registry.client import HttpRepository
from tests.e2e.conftest import invoke
from tests.e2e.images.artifacts import push
from tests.e2e.images.test_publish import Registry
from tests.images.hand_made import Layout
from tests.images.small_images import A2, A3, MATRIX, Small, index, pair

TAG = A3.tag


class Shop:
    """A registry with signed images; each test has a repository of its own."""

    def __init__(self, registry: Registry, scratch: Path) -> None:
        self.registry = registry
        self.scratch = scratch
        self.keys: dict[str, Path] = {}
        for name in ("ours", "theirs"):
            directory = scratch / name
            directory.mkdir()
            run("cosign", "generate-key-pair", cwd=directory)
            self.keys[name] = directory / "cosign"

    def signer(self, whose: str = "ours") -> Signer:
        return Signer(f"{self.keys[whose]}.key", offline=True)

    def push(self, team: str, smalls: list[Small], tag: str = TAG, provenance: bool = True) -> str:
        """Push an image; returns its name with the tag."""
        directory = self.scratch / f"layout-{team}-{len(list(self.scratch.iterdir()))}"
        layout = Layout(directory)
        made = index(layout, smalls, provenance)
        name = f"{self.registry.host}/{team}/vllm-ascend:{tag}"
        push(directory, made["digest"], name)
        return name

    def sign(self, image: str, whose: str = "ours") -> None:
        options = ["--key", self.signer(whose).key, "--no-transparency-log"]
        answer = invoke("sign", image, *options)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.startswith(image.rpartition(":")[0] + "@sha256:")

    def published(self, team: str, smalls: list[Small] | None = None, tag: str = TAG) -> str:
        image = self.push(team, smalls or pair(), tag)
        self.sign(image)
        return image

    def check(self, image: str, *more: str, whose: str = "ours") -> tuple[int, dict[str, Any], str]:
        """Exit code, what is printed as data, and the problems as people see them."""
        key = f"--key={self.keys[whose]}.pub"
        answer = invoke(
            "conformance", image, key, "--no-transparency-log", "--format", "json", *more
        )
        assert "Traceback" not in answer.stderr
        return answer.returncode, json.loads(answer.stdout or "{}"), answer.stderr

    def refused(self, image: str, *more: str, whose: str = "ours") -> dict[str, list[str]]:
        """What was found, by the name of the check; the image must not have passed."""
        code, data, words = self.check(image, *more, whose=whose)
        assert (code, data["ok"]) == (65, False)
        found = {
            one["name"]: [f"{p['where']}: {p['what']}" for p in one["problems"]]
            for one in data["checks"]
            if not one["ok"]
        }
        for lines in found.values():
            for line in lines:
                assert f"error: {line}" in words
        return found


def run(*command: str, **options: Any) -> None:
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "COSIGN_PASSWORD": ""},
        **options,
    )
    assert answer.returncode == 0, answer.stderr


ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    for tool in ("cosign", "docker-registry"):
        assert shutil.which(tool), "./setup.sh --dev installs it"
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.start()
    try:
        yield Shop(registry, tmp_path_factory.mktemp("shop"))
    finally:
        registry.kill()


@pytest.fixture(scope="module")
def good(shop: Shop) -> str:
    return shop.published("good")


def digest(image: str) -> str:
    name, _, tag = image.rpartition(":")
    found = HttpRepository(name).digest(tag)
    assert found
    return found


# ---- good ----------------------------------------------------------------------------------------


def test_a_good_image_passes_by_tag_and_by_digest(shop: Shop, good: str) -> None:
    for image in (good, f"{good.rpartition(':')[0]}@{digest(good)}"):
        code, data, words = shop.check(image)
        assert code == 0, words
        assert data["ok"]
        assert data["digest"] == digest(good)
        assert {one["name"] for one in data["checks"]} == {
            *("signature", "platforms", "provenance", "SBOM"),
            *("layers", "labels", "files", "secrets"),
        }


def test_signed_again_it_has_one_sbom_and_still_passes(shop: Shop) -> None:
    image = shop.published("twice")
    shop.sign(image)
    assert shop.check(image)[0] == 0


def test_promoted_it_passes_in_the_other_place(shop: Shop, good: str) -> None:
    target = f"{shop.registry.host}/promoted/vllm-ascend"
    assert invoke("promote", good, target).returncode == 0
    assert shop.check(f"{target}:{TAG}")[0] == 0


def test_the_sbom_is_the_same_bytes_and_is_the_one_that_is_attached(
    shop: Shop, good: str, tmp_path: Path
) -> None:
    one, two = (invoke("sbom", good, "--arch=arm64") for _ in range(2))
    assert one.returncode == 0, one.stderr
    assert one.stdout == two.stdout
    assert sbom.invalid(json.loads(one.stdout)) == ""
    assert invoke("sbom", good, f"--out={tmp_path}").returncode == 0
    assert (tmp_path / "arm64.cdx.json").read_text() == one.stdout
    trust = sign.Trust(f"{shop.keys['ours']}.pub", offline=True)
    reference = f"{good.rpartition(':')[0]}@{sbom.subject(json.loads(one.stdout))}"
    (attached,), _ = sign.attestations(reference, sign.SBOM, trust)
    assert attached.predicate == json.loads(one.stdout)


def test_with_a_key_in_the_environment(shop: Shop, good: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("COSIGN_PUBLIC_KEY", Path(f"{shop.keys['ours']}.pub").read_text())
    answer = invoke("conformance", good, "--key=env://COSIGN_PUBLIC_KEY", "--no-transparency-log")
    assert answer.returncode == 0, answer.stderr
    assert [line.split()[-1] for line in answer.stdout.splitlines()[2:]] == ["ok"] * 8


# ---- spoilt --------------------------------------------------------------------------------------


def test_another_layer(shop: Shop) -> None:
    """Who may push moves the tag to the same image with one layer more."""
    shop.published("layer")
    spoilt = pair()
    spoilt[0].layers.append({"opt/vllm/lib/python3.11/site-packages/sitecustomize.py": "import os"})
    found = shop.refused(shop.push("layer", spoilt), "--unsigned")
    assert "no signatures found" in found["signature"][0]
    assert ["SBOM arm64" in line for line in found["SBOM"]] == [True]
    (strange,) = found["files"]
    assert "files that no RECORD lists: /opt/vllm/lib/python3.11/site-packages/sitecus" in strange


def test_a_changed_label(shop: Shop) -> None:
    shop.published("label")
    spoilt = pair()
    spoilt[1].labels["ascend.pin.cann"] = "8.5.0"
    found = shop.refused(shop.push("label", spoilt), "--unsigned")
    assert "signature" in found
    (label,) = found["labels"]
    assert label.startswith("labels amd64: ascend.pin.cann: is '8.5.0', the matrix says '8.3.rc2'")


def test_a_missing_architecture(shop: Shop) -> None:
    image = shop.published("arch", [Small(arch="arm64")])
    assert shop.refused(image) == {"platforms": ["platforms: amd64: is missing"]}
    assert shop.check(image, "--arch=arm64")[0] == 0


def test_another_key(shop: Shop, good: str) -> None:
    found = shop.refused(good, whose="theirs")
    assert "invalid signature" in found["signature"][0]
    assert len(found["SBOM"]) == 2, "what they attest counts for nothing either"
    assert set(found) == {"signature", "SBOM", "layers"}
    assert all("are not read" in line for line in found["layers"])


def test_signed_by_someone_else(shop: Shop) -> None:
    image = shop.push("theirs", pair())
    shop.sign(image, whose="theirs")
    assert set(shop.refused(image)) == {"signature", "SBOM", "layers"}
    assert set(shop.refused(image, "--unsigned")) == {"signature", "SBOM"}


def test_no_sbom(shop: Shop) -> None:
    image = shop.push("bare", pair())
    sign.sign(f"{image.rpartition(':')[0]}@{digest(image)}", shop.signer())
    found = shop.refused(image)
    assert list(found) == ["SBOM"]
    assert [line.partition(": ")[0] for line in found["SBOM"]] == ["SBOM arm64", "SBOM amd64"]


def test_an_sbom_that_lies(shop: Shop) -> None:
    """Signed as it should be: what it says is held against the layers all the same."""
    image = shop.published("lie")
    name, _, tag = image.rpartition(":")
    repository = HttpRepository(name)
    root = repository.manifest(tag)
    assert root
    arm = manifests(repository, root)["arm64"]
    _, text = sbom.documents(MATRIX, repository, root, ["arm64"], print)["arm64"]
    lie = text.replace('"version": "2.8.0"', '"version": "2.8.1"')
    sign.attest(f"{name}@{arm.digest}", sign.SBOM, lie, shop.signer())
    found = shop.refused(image)
    assert found == {
        "SBOM": [
            f"SBOM arm64: SBOM: {one}: lists 2.8.1, the image has 2.8.0"
            for one in ("torch", "torch-npu")
        ]
    }


def test_a_tag_that_points_to_another_signed_image(shop: Shop) -> None:
    image = shop.published("moved", pair(variant=A2), tag=A3.tag)
    found = shop.refused(image)
    assert set(found) == {"labels"}
    assert (
        "labels arm64: ascend.platform: is 'a2', the matrix says 'a3' for v0.13.0rc1-a3"
        in (found["labels"])
    )


def test_an_index_whose_digest_was_swapped(shop: Shop) -> None:
    """arm64 leads to another image that is signed, too."""
    image = shop.published("swapped")
    shop.published("swapped", pair(variant=A2), tag=A2.tag)
    name = image.rpartition(":")[0]
    repository = HttpRepository(name)
    ours, theirs = repository.manifest(A3.tag), repository.manifest(A2.tag)
    assert ours
    assert theirs
    document = json.loads(ours.body)
    document["manifests"][0] = json.loads(theirs.body)["manifests"][0]
    swapped = type(ours).made({**document, "mediaType": ours.media_type})
    repository.push_manifest(A3.tag, swapped)
    found = shop.refused(image, "--unsigned")
    assert "no signatures found" in found["signature"][0]
    assert any("arm64: ascend.platform: is 'a2'" in line for line in found["labels"])


def test_a_secret_in_a_layer_that_a_later_one_removes(shop: Shop) -> None:
    spoilt = pair()
    spoilt[0].layers += [
        {"root/.netrc": "machine index.example.com login ci password x"},
        {"root/.wh..netrc": ""},
    ]
    found = shop.refused(shop.published("secret", spoilt))
    assert set(found) == {"secrets"}
    (line,) = found["secrets"]
    assert line.startswith("secrets arm64: layer sha256:")
    assert line.endswith(": /root/.netrc: holds netrc")


def test_no_provenance(shop: Shop) -> None:
    image = shop.push("unproven", pair(), provenance=False)
    shop.sign(image)
    found = shop.refused(image)
    assert [line.partition(": ")[0] for line in found["provenance"]] == [
        "provenance arm64",
        "provenance amd64",
    ]
    assert shop.check(image, "--no-provenance")[0] == 0


def test_bytes_that_changed_in_the_registry(shop: Shop) -> None:
    """Below the protocol: the registry itself still tells the old digest."""
    spoilt = pair()
    spoilt[0].layers.append({"usr/share/doc/only-here": "text"})
    image = shop.published("disk", spoilt)
    name, _, tag = image.rpartition(":")
    repository = HttpRepository(name)
    root = repository.manifest(tag)
    assert root
    arm = manifests(repository, root)["arm64"]
    layer = arm.document["layers"][-1]["digest"]
    with shop.registry.damaged(layer):
        found = shop.refused(image)
    assert set(found) == {"layers"}
    assert f"layers arm64: layer {layer[:19]}" in found["layers"][0]
    shop.registry.path(layer).unlink()
    found = shop.refused(image)
    assert found == {"layers": [f"layers arm64: {layer}: is not in the registry"]}


# ---- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code", "what"),
    [
        ([], 64, "--key: no trusted signer is given"),
        (["--key=gone.pub"], 64, "--key: no such file: gone.pub"),
        (
            ["--identity=x", "--issuer=y", "--no-transparency-log"],
            64,
            "--no-transparency-log: a signature without a key",
        ),
        (["--key=env://K", "--arch=riscv"], 64, "--arch: 'riscv' is not in the matrix"),
        (
            ["--key=env://K", "--no-transparency-log", "--format=xml"],
            64,
            "--format: 'xml' is not known",
        ),
    ],
)
def test_wrong_options(good: str, more: list[str], code: int, what: str) -> None:
    answer = invoke("conformance", good, *more)
    assert answer.returncode == code
    assert what in answer.stderr
    assert "Traceback" not in answer.stderr


def test_no_image_and_no_registry(shop: Shop, good: str) -> None:
    for image, what in (
        (f"{good}-gone", f"{good}-gone: is not in the registry"),
        ("localhost:1/team/vllm-ascend:x", "localhost:1/team/vllm-ascend: does not answer"),
    ):
        code, _, words = shop.check(image)
        assert code == 69
        assert what in words
