"""Locking from the real index: the committed locks come out again, and the CPU index's torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import UserError
from images.locking import checks, lock, slices
from images.matrix import load

pytestmark = pytest.mark.index

RELEASE = "v0.13.0rc1"


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """An empty directory of locks, with what the build itself installs."""
    shutil.copy(slices.LOCKS / "tools.txt", tmp_path / "tools.txt")
    return tmp_path


def test_the_committed_lock_comes_out_again(locks: Path) -> None:
    matrix = load()
    made = lock.lock(matrix, matrix.release(RELEASE), None, print, locks)
    committed = slices.LOCKS / RELEASE
    names = sorted(path.relative_to(committed) for path in committed.rglob("*") if path.is_file())
    assert sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file()) == names
    for name in names:
        assert (made / name).read_text() == (committed / name).read_text(), name


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Every package is asked for here first; the index has one."""


@pytest.fixture
def cpu_index(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An index that has torch for the CPU alone: (its address, the sha256 of its wheel)."""
    directory = tmp_path / "index" / "torch"
    directory.mkdir(parents=True)
    wheel = directory / "torch-2.8.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        info = "torch-2.8.0+cpu.dist-info"
        metadata = "Metadata-Version: 2.1\nName: torch\nVersion: 2.8.0+cpu\nRequires-Dist: sympy\n"
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_x86_64\n"
        )
        file.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    address = wheel.name.replace("+", "%2B")
    link = f'<a href="{address}#sha256={digest}">{wheel.name}</a>'
    (directory / "index.html").write_text(f"<!doctype html><html><body>{link}</body></html>")
    handler = functools.partial(Quiet, directory=str(tmp_path / "index"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", digest
    server.shutdown()


def test_torch_on_amd64_is_the_cpu_indexs(locks: Path, cpu_index: tuple[str, str]) -> None:
    matrix = load()
    release = matrix.release(RELEASE)
    address, digest = cpu_index
    made = lock.lock(matrix, release, address, print, locks)
    torch = {
        arch: next(
            p for p in slices.parse((made / arch / "torch.txt").read_text()) if p.name == "torch"
        )
        for arch in matrix.arches
    }
    assert torch["amd64"].version == "2.8.0+cpu"
    assert torch["amd64"].hashes == (f"sha256:{digest}",)
    assert torch["arm64"].version == "2.8.0"
    assert checks.check(matrix, release, locks) == []


def test_an_index_that_lacks_a_package_changes_nothing(locks: Path) -> None:
    matrix = load()
    release = dataclasses.replace(matrix.release(RELEASE), torch_npu="2.8.0.post99")
    with pytest.raises(UserError) as raised:
        lock.lock(matrix, release, None, print, locks)
    assert raised.value.exit_code == 69
    assert "2.8.0.post99" in str(raised.value)
    assert sorted(path.name for path in locks.iterdir()) == ["tools.txt"]
