"""What the layers are: shared, reproducible, and of the right architecture."""

from __future__ import annotations

import json
import tarfile
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import SITE_PACKAGES, Image, build, image, project
from tests.e2e.images import test_push
from tests.e2e.images.test_push import manifest

pytestmark = pytest.mark.usefixtures("cold_build")

registry = test_push.registry
FOREIGN = "arm64"
EM_AARCH64 = 183
SECRET = "a-secret-of-the-site-4c1d9e"


def test_platforms_share_every_layer_but_vllm_ascends(images: dict[str, Image]) -> None:
    a2, a3 = images["a2"].layers, images["a3"].layers
    different = {name for name in a2 if a2[name] != a3[name]}
    kernels = {name for name in different if name.startswith("base ")}
    assert different - kernels == {"vllm-ascend"}
    assert len(kernels) == 1  # where a CANN image has the kernels of its platform


@pytest.fixture(scope="module")
def arm64(registry: str, tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """Every stage made anew, with credentials that no index asks for, and pushed as gzip."""
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text(f"machine index.invalid login someone password {SECRET}\n")
    where = project(tmp_path_factory.mktemp("arm64") / "project")
    what = ("--platform=a2,a3", "--base=stand-in", f"--arch={FOREIGN}", "--no-cache")
    how = (f"--registry={registry}", "--push", "--compression=gzip", f"--netrc={netrc}")
    return [image(one) for one in build(*what, *how, where=where)]


def pushed(registry: str, one: Image) -> dict[str, Any]:
    digest, found = manifest(registry, one.tag.rpartition(":")[2])
    assert digest == one.digest
    return found


def test_a_registry_that_does_not_take_zstd(registry: str, arm64: list[Image]) -> None:
    assert len(arm64) == 2
    for one in arm64:
        layers = pushed(registry, one)["layers"]
        assert all(layer["mediaType"].endswith("+gzip") for layer in layers)


def test_arm64_is_built_without_an_emulator_and_keeps_no_secret(
    registry: str, arm64: list[Image]
) -> None:
    """The configuration's architecture, every ELF file's machine, and every byte of each layer."""
    _, a3 = arm64
    found = pushed(registry, a3)
    with blob(registry, found["config"]["digest"]) as answer:
        config = answer.read().decode()
    assert json.loads(config)["architecture"] == FOREIGN
    assert SECRET not in config
    machines, leaks = {}, []
    for name, content in _files(registry, found):
        if content[:4] == b"\x7fELF":
            machines[name] = int.from_bytes(content[18:20], "little")
        if SECRET.encode() in content:
            leaks.append(name)
    assert leaks == []
    assert len(machines) > 500
    assert {
        "/opt/vllm/bin/dumb-init",
        f"{SITE_PACKAGES}/vllm_router_rs.abi3.so",
        "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2",
    } <= set(machines)
    assert {name: machine for name, machine in machines.items() if machine != EM_AARCH64} == {}


def blob(registry: str, digest: str) -> Any:
    return urllib.request.urlopen(f"http://{registry}/v2/vllm-ascend/blobs/{digest}")


def _files(registry: str, found: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Every file of every layer in the registry, without starting anything in it."""
    for layer in found["layers"]:
        with (
            blob(registry, layer["digest"]) as answer,
            tarfile.open(fileobj=answer, mode="r|gz") as archive,
        ):
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    yield f"/{member.name.removeprefix('./')}", file.read()
