"""What goes wrong is said in one line, with what to do; nothing half-made is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.locking.slices import with_digest
from tests import ROOT
from tests.e2e.conftest import NATIVE, Image, building, docker, invoke, project


def errors(answer: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in answer.stderr
    return [line for line in answer.stderr.splitlines() if line.startswith("error: ")]


def test_a_base_that_cannot_be_pulled() -> None:
    base = "127.0.0.1:1/ascend/cann:8.3"
    answer = invoke("build", "--platform=a3", f"--base={base}", "--tools=debian")
    (error,) = errors(answer)
    assert answer.returncode == 69
    assert base in error
    assert "connection refused" in error  # the registry's own answer
    for way in ("--registry-mirror", "--cann-packages", "--base stand-in"):
        assert way in error


def test_no_engine() -> None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent.sock"}
    answer = invoke("build", "--platform=a3", "--base=stand-in", env=environment)
    (error,) = errors(answer)
    assert answer.returncode == 69
    assert "no engine answers" in error
    assert "./setup.sh" in error


def test_an_index_that_does_not_answer(a3: Image, unchanged_tag: Callable[[str], None]) -> None:
    unchanged_tag(a3.tag)
    index = "--pip-index=http://127.0.0.1:1/simple"
    with building():
        answer = invoke("build", "--platform=a3", "--base=stand-in", "--no-cache", index)
    assert answer.returncode == 70
    assert any("--pip-index" in error for error in errors(answer))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project with a copy of images/ that may be spoiled."""
    where = project(tmp_path / "project")
    (where / "images").unlink()
    shutil.copytree(ROOT / "images", where / "images")
    return where


def test_a_wrong_hash_in_a_lock(
    a3: Image, copy: Path, unchanged_tag: Callable[[str], None]
) -> None:
    unchanged_tag(a3.tag)
    slice_file = copy / "images" / "locks" / "v0.13.0rc1" / NATIVE / "mooncake.txt"
    lines = slice_file.read_text().splitlines()
    wrong = [line[: line.index("sha256:") + 7] + "0" * 64 for line in lines if "sha256:" in line]
    pin = next(line for line in lines if "==" in line)
    slice_file.write_text(with_digest(f"{pin}\n{wrong[0]}\n"))
    answer = invoke("build", "--platform=a3", "--base=stand-in", where=copy)
    assert answer.returncode == 70
    assert any(
        "mooncake-transfer-engine" in error and "invoke lock --check" in error
        for error in errors(answer)
    )


def test_a_broken_matrix(copy: Path) -> None:
    matrix = copy / "images" / "matrix.yaml"
    text = matrix.read_text()
    text = text.replace(", soc_version: ascend910_9391", "", 1)
    matrix.write_text(text)
    answer = invoke("build", "--platform=a3", "--base=stand-in", where=copy)
    assert answer.returncode == 65
    assert any("matrix.yaml: platforms.a3.soc_version" in error for error in errors(answer))


@pytest.fixture
def small_engine(tmp_path: Path) -> Iterator[str]:
    """A second engine whose whole disk is smaller than one layer, in a network of its own: an
    engine without a bridge would remove the first one's."""
    if os.geteuid() != 0:
        pytest.skip("a second engine needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(disk)], check=True)
    address = f"unix://{disk}/engine.sock"
    command = [
        "unshare",
        "--net",
        "dockerd",
        "--data-root",
        f"{disk}/data",
        "--exec-root",
        f"{disk}/exec",
    ]
    command += ["--pidfile", f"{disk}/pid", "--host", address, "--bridge=none"]
    command += ["--iptables=false", "--ip6tables=false"]
    with (tmp_path / "engine.log").open("w") as log:
        engine = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(240):
            answer = docker("version", check=False, env={**os.environ, "DOCKER_HOST": address})
            if answer.returncode == 0:
                break
            time.sleep(0.5)
        yield address
    finally:
        engine.terminate()
        engine.wait(30)
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_no_disk(a3: Image, small_engine: str) -> None:
    environment = {**os.environ, "DOCKER_HOST": small_engine}
    with building():
        answer = invoke("build", "--platform=a3", "--base=stand-in", env=environment)
    assert answer.returncode == 70
    assert any("the disk is full" in error for error in errors(answer))
    assert docker("images", "--quiet", env=environment).stdout == ""
