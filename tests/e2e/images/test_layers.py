"""What the layers are: shared, reproducible, and of the right architecture."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import SITE_PACKAGES, Image, build, docker, image, project

pytestmark = pytest.mark.usefixtures("cold_build")

FOREIGN = "arm64"
EM_AARCH64 = 183
# Under another name: the native image keeps its tag.
ARM64 = (
    *("--platform=a3", "--base=stand-in", f"--arch={FOREIGN}"),
    "--registry=test.invalid/arm64",
)
SECRET = "a-secret-of-the-site-4c1d9e"


def test_platforms_share_every_layer_but_vllm_ascends(images: dict[str, Image]) -> None:
    a2, a3 = images["a2"].layers, images["a3"].layers
    different = {name for name in a2 if a2[name] != a3[name]}
    kernels = {name for name in different if name.startswith("base ")}
    assert different - kernels == {"vllm-ascend"}
    assert len(kernels) == 1  # where a CANN image has the kernels of its platform


@pytest.fixture(scope="module")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Every stage made anew, with credentials that no index asks for."""
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text(f"machine index.invalid login someone password {SECRET}\n")
    where = project(tmp_path_factory.mktemp("arm64") / "project")
    (built,) = build(*ARM64, "--no-cache", f"--netrc={netrc}", where=where)
    return image(built)


def test_arm64_is_built_without_an_emulator_and_keeps_no_secret(arm64: Image) -> None:
    """The manifest's architecture, every ELF file's machine, and every byte of the image."""
    inspected = docker("image", "inspect", arm64.tag).stdout
    (config,) = json.loads(inspected)
    assert config["Architecture"] == FOREIGN
    assert SECRET not in inspected
    machines, leaks = {}, []
    for name, content in _files(arm64.tag):
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


def _files(tag: str) -> Iterator[tuple[str, bytes]]:
    """Every file of an image's root file system, without starting anything in it."""
    container = docker("create", f"--platform=linux/{FOREIGN}", tag).stdout.strip()
    export = subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    yield f"/{member.name}", file.read()
        assert export.wait() == 0
    finally:
        docker("rm", container)
