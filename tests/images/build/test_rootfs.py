"""Root file systems of Debian packages: made once, and anew when what they are made of changes."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from images.build import rootfs
from images.matrix import Arch, Debian, Matrix

NATIVE = Arch("amd64" if platform.machine() == "x86_64" else "arm64", platform.machine())
FOREIGN = Arch("riscv64", "riscv64")


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake: notes its arguments, writes the tar they name, ends as `code` says."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "code").write_text("0")
    script = directory / "mmdebstrap"
    script.write_text(
        f'#!/bin/sh\necho "$*" >> {directory}/calls\n'
        "for word; do case $word in *.tar) tar=$word ;; esac; done\n"
        f'echo "I: working" >&2\necho "E: no such suite" >&2\necho tar > "$tar"\n'
        f"exit $(cat {directory}/code)\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def _calls(mmdebstrap: Path) -> list[str]:
    path = mmdebstrap / "calls"
    return path.read_text().splitlines() if path.exists() else []


def _provide(debian: Debian, directory: Path, arch: Arch = NATIVE) -> Path:
    return rootfs.provide(debian, arch, "base", directory, lambda _: None)


def test_it_is_made_once(mmdebstrap: Path, matrix: Matrix, tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    made = [_provide(matrix.stand_in, roots) for _ in range(2)]
    assert made == 2 * [roots / f"base-{NATIVE.name}.tar"]
    assert made[0].read_text() == "tar\n"
    assert sorted(path.name for path in roots.iterdir()) == [
        f"base-{NATIVE.name}.sha256",
        f"base-{NATIVE.name}.tar",
    ]
    (call,) = _calls(mmdebstrap)
    assert f"--architectures={NATIVE.name} --variant=minbase" in call
    assert f"--include={','.join(matrix.stand_in.packages)}" in call
    assert " bookworm " in call


def test_other_packages_make_it_anew(mmdebstrap: Path, matrix: Matrix, tmp_path: Path) -> None:
    _provide(matrix.stand_in, tmp_path)
    before = (tmp_path / f"base-{NATIVE.name}.sha256").read_text()
    _provide(replace(matrix.stand_in, packages=("python3",)), tmp_path)
    assert len(_calls(mmdebstrap)) == 2
    assert (tmp_path / f"base-{NATIVE.name}.sha256").read_text() != before


def test_another_suite_makes_it_anew(mmdebstrap: Path, matrix: Matrix, tmp_path: Path) -> None:
    _provide(matrix.stand_in, tmp_path)
    _provide(replace(matrix.stand_in, suite="trixie"), tmp_path)
    assert len(_calls(mmdebstrap)) == 2


def test_a_tar_without_its_stamp_is_not_trusted(
    mmdebstrap: Path, matrix: Matrix, tmp_path: Path
) -> None:
    (tmp_path / f"base-{NATIVE.name}.tar").write_text("half")
    assert _provide(matrix.stand_in, tmp_path).read_text() == "tar\n"
    assert len(_calls(mmdebstrap)) == 1


def test_a_foreign_architecture_is_only_unpacked(
    mmdebstrap: Path, matrix: Matrix, tmp_path: Path
) -> None:
    _provide(matrix.stand_in, tmp_path, FOREIGN)
    (call,) = _calls(mmdebstrap)
    assert "--architectures=riscv64 --variant=extract --include=?essential" in call


def test_a_mirror_is_asked(mmdebstrap: Path, matrix: Matrix, tmp_path: Path) -> None:
    there = "http://mirror.example"
    rootfs.provide(matrix.stand_in, NATIVE, "base", tmp_path, lambda _: None, there)
    assert _calls(mmdebstrap)[0].endswith(".tar http://mirror.example/debian")


def test_a_failure_leaves_nothing_and_tells_the_reasons(
    mmdebstrap: Path, matrix: Matrix, tmp_path: Path, problems_of: Callable[..., list[str]]
) -> None:
    (mmdebstrap / "code").write_text("1")
    roots = tmp_path / "roots"
    assert problems_of(lambda: _provide(matrix.stand_in, roots), 69) == [
        "mmdebstrap: E: no such suite (--apt-mirror names another mirror)"
    ]
    assert list(roots.iterdir()) == []


@pytest.mark.usefixtures("no_docker")
def test_no_mmdebstrap(
    matrix: Matrix, tmp_path: Path, problems_of: Callable[..., list[str]]
) -> None:
    assert problems_of(lambda: _provide(matrix.stand_in, tmp_path / "roots"), 69) == [
        "mmdebstrap: is not installed (./setup.sh installs it)"
    ]
