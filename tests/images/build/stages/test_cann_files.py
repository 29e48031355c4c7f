"""Cutting CANN into layers: each file in one part, and only the kernels a platform's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from images.build import render

STAGES = render.TEMPLATES.parent / "stages"
TOOLKIT = "usr/local/Ascend/ascend-toolkit/8.3.RC2"
TBE = f"{TOOLKIT}/opp/built-in/op_impl/ai_core/tbe"
FILES = {
    f"{TOOLKIT}/lib64/libascendcl.so": "toolkit",
    f"{TBE}/impl/add.py": "toolkit",
    "etc/Ascend/ascend_cann_install.info": "toolkit",
    f"{TBE}/kernel/ascend910_93/add/add.o": "kernels",
    f"{TBE}/config/ascend910_93/add.json": "kernels",
    "usr/local/Ascend/nnal/atb/8.3.RC2/lib/libatb.so": "nnal",
    "usr/local/Ascend/nnal/atb/set_env.sh": "nnal",
    "usr/local/python3.11.13/bin/python3.11": "python",
    "usr/bin/bash": None,
    "root/.bashrc": None,
}


@pytest.fixture
def cann_files(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with its neighbour layer.py importable, as in /stages."""
    monkeypatch.syspath_prepend(str(STAGES))
    for name in ("layer", "cann_files"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("cann_files")


def _base(root: Path, kernels: str = "ascend910_93") -> Path:
    for name in FILES:
        file = root / name.replace("ascend910_93", kernels)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    (root / "usr/local/Ascend/ascend-toolkit/latest").symlink_to("8.3.RC2")
    return root


def _parts(out: Path) -> dict[str, set[str]]:
    return {
        part.name: {
            str(path.relative_to(part))
            for path in part.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        for part in out.iterdir()
    }


def test_every_file_of_cann_is_in_one_part(cann_files: ModuleType, tmp_path: Path) -> None:
    cann_files.split(_base(tmp_path / "base"), tmp_path / "out")
    expected: dict[str, set[str]] = {
        part: set() for part in ("kernels", "nnal", "toolkit", "python")
    }
    for name, part in FILES.items():
        if part:
            expected[part].add(name)
    assert _parts(tmp_path / "out") == expected


def test_links_stay_links(cann_files: ModuleType, tmp_path: Path) -> None:
    cann_files.split(_base(tmp_path / "base"), tmp_path / "out")
    link = tmp_path / "out/toolkit/usr/local/Ascend/ascend-toolkit/latest"
    assert link.readlink() == Path("8.3.RC2")


def test_two_platforms_differ_in_their_kernels_alone(
    cann_files: ModuleType, tmp_path: Path
) -> None:
    for kernels in ("ascend910_93", "ascend910b"):
        cann_files.split(_base(tmp_path / kernels, kernels), tmp_path / f"out-{kernels}")
    a3, a2 = (_parts(tmp_path / f"out-{kernels}") for kernels in ("ascend910_93", "ascend910b"))
    assert {part for part in a3 if a3[part] != a2[part]} == {"kernels"}


def test_a_base_without_cann(cann_files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not a CANN image: it has no /usr/local/Ascend"):
        cann_files.split(tmp_path, tmp_path / "out")


def test_every_time_is_the_epoch(
    cann_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cann_files, "OUT", tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["cann_files.py", str(_base(tmp_path / "base"))])
    cann_files.main()
    times = {path.lstat().st_mtime for path in (tmp_path / "out").rglob("*")}
    assert times == {315532800}
