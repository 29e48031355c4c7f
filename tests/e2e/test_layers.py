"""What the layers are: shared, reproducible, and of the right architecture."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.targets import WORK
from tests.e2e.conftest import Image, build, docker, image

FOREIGN = "arm64"
EM_AARCH64 = 183
PYTHON_LAYERS = ("torch", "libraries", "dependencies", "mooncake", "vllm")


def test_platforms_share_every_layer_but_vllm_ascends(images: dict[str, Image]) -> None:
    a2, a3 = images["a2"].layers, images["a3"].layers
    different = {name for name in a2 if a2[name] != a3[name]}
    kernels = {name for name in different if name.startswith("base ")}
    assert different - kernels == {"vllm-ascend"}
    assert len(kernels) == 1  # where a CANN image has the kernels of its platform


@pytest.fixture(scope="module")
def arm64() -> Image:
    (built,) = build("--platform=a3", "--base=stand-in", f"--arch={FOREIGN}")
    return image(built)


def test_two_cold_builds_give_the_same_layers_bit_for_bit(arm64: Image) -> None:
    (again,) = build("--platform=a3", "--base=stand-in", f"--arch={FOREIGN}", "--no-cache")
    assert image(again).layers == arm64.layers
    assert set(PYTHON_LAYERS) < set(arm64.layers)


def test_arm64_is_built_without_an_emulator(arm64: Image) -> None:
    inspected = docker(
        "image", "inspect", "--format", "{{.Architecture}}", arm64.tag
    ).stdout.strip()
    assert inspected == FOREIGN
    machines = dict(_machines(arm64.tag))
    assert len(machines) > 500
    assert {name: machine for name, machine in machines.items() if machine != EM_AARCH64} == {}


def test_a_secret_is_in_no_layer(a3: Image) -> None:
    """The CA bundle and the site's settings reach the build, and nothing of them stays."""
    assert (WORK / "secrets" / "site").is_file()
    listed = a3.run(
        "-c", "find / -xdev -path /proc -prune -o -path '*/run/secrets*' -print", entrypoint="sh"
    )
    assert [line for line in listed.stdout.splitlines() if not line.endswith("/run/secrets")] == []
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", a3.tag).stdout
    assert "PIP_INDEX_URL" not in history
    assert "netrc=" not in history


def _machines(tag: str) -> Iterator[tuple[str, int]]:
    """Every ELF file of an image and its e_machine; scripts for the kernel's BPF machine left out."""
    container = docker("create", f"--platform=linux/{FOREIGN}", tag).stdout.strip()
    try:
        yield from _read_machines(container)
    finally:
        docker("rm", container)


def _read_machines(container: str) -> Iterator[tuple[str, int]]:
    import subprocess

    with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
        assert isinstance(export.stdout, io.BufferedIOBase)
        with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                head = file.read(20) if file else b""
                if head[:4] == b"\x7fELF":
                    yield str(Path("/") / member.name), int.from_bytes(head[18:20], "little")
