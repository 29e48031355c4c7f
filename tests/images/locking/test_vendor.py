"""The vendor slice: completed from an index or addresses of the test's own, on loopback."""

from __future__ import annotations

import functools
import hashlib
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.errors import EX_DATAERR, EX_UNAVAILABLE
from images.build import base as bases
from images.build import targets
from images.build.options import Options
from images.locking import checks, slices, vendor
from images.matrix import Arch, Matrix, Release, VendorPackage

Problems = Callable[..., list[str]]
NAME = "triton_ascend-3.2.2-cp312-cp312-manylinux_2_28_{}.whl"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a directory, `tmp_path / "index"`, served with its listings."""
    (tmp_path / "index/triton-ascend").mkdir(parents=True)
    handler = functools.partial(_Quiet, directory=str(tmp_path / "index"))
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def release(matrix: Matrix, server: str) -> Release:
    there = {"triton-ascend": VendorPackage("3.2.0", index=server)}
    return replace(matrix.releases["v0.23.0.post1"], vendor=there)


@pytest.fixture
def locks(tmp_path: Path, matrix: Matrix, release: Release) -> Path:
    """Locks of each package that the layers name, without a vendor slice."""
    folder = tmp_path / "locks"
    for arch in matrix.arches:
        own = folder / release.name / arch
        for layer, names in matrix.layers.items():
            pinned = [slices.Pinned(name, "1", (f"sha256:{64 * '0'}",)) for name in names]
            for place in (own, own / "stand-in"):
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{layer}.txt").write_text(slices.render(pinned))
    (folder / release.name / "sources.txt").write_text(slices.render([]))
    return folder


@pytest.fixture(autouse=True)
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vendor, "WHEELS", tmp_path / "wheels")
    return tmp_path / "wheels"


def _wheel(path: Path, text: str = "", requires: str = "") -> str:
    """Write a wheel; returns its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a.py", text)
        made.writestr("triton_ascend-3.2.2.dist-info/METADATA", f"Name: triton-ascend\n{needs}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _upload(tmp_path: Path, text: str = "", requires: str = "") -> dict[str, str]:
    machines = {"arm64": "aarch64", "amd64": "x86_64"}
    folder = tmp_path / "index/triton-ascend"
    return {
        arch: _wheel(folder / NAME.format(machine), text, requires)
        for arch, machine in machines.items()
    }


def _arches(matrix: Matrix) -> list[Arch]:
    return list(matrix.arches.values())


def _slice(locks: Path, release: Release, arch: str) -> list[slices.Pinned]:
    return slices.read_slice(slices.slice_path(release, arch, slices.VENDOR, locks))


def test_an_index_completes_the_slice_and_the_build_gets_the_wheels(
    matrix: Matrix, release: Release, locks: Path, tmp_path: Path
) -> None:
    hashes, told = _upload(tmp_path), list[str]()
    vendor.complete(matrix, release, _arches(matrix), None, "", told.append, locks)
    for arch, sha256 in hashes.items():
        (pinned,) = _slice(locks, release, arch)
        assert pinned == slices.Pinned("triton-ascend", "3.2.2", (f"sha256:{sha256}",))
        assert any(sha256 in line and "http://127.0.0.1" in line for line in told)
    directory = vendor.fetch(release, _arches(matrix), None, "", told.append, locks)
    assert {hashlib.sha256(one.read_bytes()).hexdigest() for one in directory.iterdir()} == {
        *hashes.values()
    }


def test_a_wheel_that_only_the_directory_has(
    matrix: Matrix, release: Release, locks: Path, tmp_path: Path
) -> None:
    own = [matrix.arch("arm64")]
    sha256 = _wheel(tmp_path / "given" / NAME.format("aarch64"))
    vendor.complete(matrix, release, own, tmp_path / "given", "", print, locks)
    assert _slice(locks, release, "arm64")[0].hashes == (f"sha256:{sha256}",)
    assert not slices.slice_path(release, "amd64", slices.VENDOR, locks).exists()


def test_the_addresses_of_wheels_with_a_local_version(
    matrix: Matrix, release: Release, server: str, locks: Path, tmp_path: Path
) -> None:
    name = "triton_ascend-3.2.2+git1-cp312-cp312-manylinux_2_28_aarch64.whl"
    _wheel(tmp_path / "index" / name)
    urls = {"arm64": f"{server}/{name.replace('+', '%2B')}", "amd64": f"{server}/none.whl"}
    there = replace(release, vendor={"triton-ascend": VendorPackage("3.2.0", urls=urls)})
    vendor.complete(matrix, there, [matrix.arch("arm64")], None, "", print, locks)
    assert _slice(locks, there, "arm64")[0].version == "3.2.2+git1"


def test_without_the_vendor_packages_addresses_and_both_ways_are_named(
    matrix: Matrix, release: Release, server: str, locks: Path, problems_of: Problems
) -> None:
    lines = problems_of(
        lambda: vendor.complete(matrix, release, _arches(matrix), None, "", print, locks),
        EX_UNAVAILABLE,
    )
    assert len(lines) == 2
    for line, arch in zip(lines, matrix.arches, strict=True):
        assert f"triton-ascend 3.2.2 for {arch} is not on the package index" in line
        assert f"{server}/triton-ascend/" in line
        assert "--wheels DIR" in line
        assert f"invoke lock --release {release.name}" in line
    assert not slices.complete(release, matrix.arches, locks)


def test_another_build_under_the_same_name_is_refused(
    matrix: Matrix, release: Release, locks: Path, tmp_path: Path, problems_of: Problems
) -> None:
    own = [matrix.arch("arm64")]
    before = _upload(tmp_path)["arm64"]
    vendor.complete(matrix, release, own, None, "", print, locks)
    for wheel in vendor.directory_of(release).iterdir():
        wheel.unlink()
    after = _upload(tmp_path, text="# changed")["arm64"]
    (line,) = problems_of(lambda: vendor.fetch(release, own, None, "", print, locks), EX_DATAERR)
    assert "triton-ascend 3.2.2 has sha256:" + before in line
    assert after in line
    assert NAME.format("aarch64") in line
    assert "another build of this version" in line
    assert not [*vendor.directory_of(release).iterdir()]


def test_a_requirement_that_the_lock_lacks(
    matrix: Matrix, release: Release, locks: Path, tmp_path: Path, problems_of: Problems
) -> None:
    _upload(tmp_path, requires="something-else>=2")
    lines = problems_of(
        lambda: vendor.complete(matrix, release, _arches(matrix), None, "", print, locks),
        EX_DATAERR,
    )
    assert all("requires something-else>=2, which the lock lacks" in line for line in lines)
    assert not slices.complete(release, matrix.arches, locks)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("3.2.2+git1", ""),
        ("3.2.1", "triton-ascend is 3.2.1, the matrix says 3.2.2"),
        ("", "lacks triton-ascend"),
    ],
)
def test_a_vendor_slice_is_compared_with_the_pins(
    matrix: Matrix, tmp_path: Path, version: str, words: str
) -> None:
    release = matrix.releases["v0.23.0.post1"]
    shutil.copytree(slices.LOCKS / release.name, tmp_path / release.name)
    pinned = [slices.Pinned("triton-ascend", version, (f"sha256:{64 * '0'}",))] if version else []
    path = slices.slice_path(release, "arm64", slices.VENDOR, tmp_path)
    path.write_text(slices.render(pinned))
    found = [str(one) for one in checks.check(matrix, release, tmp_path)]
    where = f"locks/{release.name}/arm64/vendor.txt: {words}"
    assert len(found) == bool(words)
    assert all(one.startswith(where) and "delete the file" in one for one in found)


def test_a_dry_run_completes_nothing(
    matrix: Matrix, docker: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(vendor, "complete", lambda *given: asked.append(given))
    monkeypatch.setattr(bases, "find_base", lambda *_: None)
    monkeypatch.setattr(targets, "_tag", lambda *_: "")
    monkeypatch.setattr(targets, "_tools_image", lambda *_: None)
    variant = matrix.variant("v0.18.0", "a3", "ubuntu22.04")
    for complete in (False, True):
        targets.resolve(matrix, [variant], Options((matrix.arch("arm64"),)), print, complete)
        assert len(asked) == complete
    targets.resolve(matrix, [variant], Options((matrix.arch("arm64"),), base="stand-in"), print)
    assert len(asked) == 1
