"""A wheel of the index without its native code."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from images.build.stages import wheel

METADATA = """\
Metadata-Version: 2.4
Name: vllm
Version: 0.15.0
Requires-Dist: torch==2.9.1
Requires-Dist: torchvision==0.24.1
Requires-Dist: torch-geometric
Requires-Dist: ray[cgraph]>=2.48.0
Requires-Dist: numpy
Provides-Extra: audio

vLLM. Version: any.
"""


def _index_wheel(path: Path, machine: str) -> Path:
    made = path / f"vllm-0.15.0-cp38-abi3-manylinux_2_31_{machine}.whl"
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr("vllm/_C.abi3.so", machine)
        opened.writestr("vllm/__init__.py", "")
        opened.writestr("vllm/model_executor/E=1,N=2.json", "{}")
        opened.writestr("vllm/vllm_flash_attn/__init__.py", "")
        for name, text in {"METADATA": METADATA, "WHEEL": machine, "RECORD": ""}.items():
            opened.writestr(f"vllm-0.15.0.dist-info/{name}", text)
    return made


def test_native_code_and_its_requirements_are_left_out(tmp_path: Path) -> None:
    made = wheel.pure(_index_wheel(tmp_path, "x86_64"), tmp_path, ["torch", "torchvision", "ray"])
    assert made.name == "vllm-0.15.0+empty-py3-none-any.whl"
    with zipfile.ZipFile(made) as opened:
        names = set(opened.namelist())
        metadata = opened.read("vllm-0.15.0+empty.dist-info/METADATA").decode()
    assert names == {
        "vllm/__init__.py",
        "vllm/model_executor/E=1,N=2.json",
        *(f"vllm-0.15.0+empty.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")),
    }
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert required == ["Requires-Dist: torch-geometric", "Requires-Dist: numpy"]
    assert "Version: 0.15.0+empty\n" in metadata
    assert "vLLM. Version: any.\n" in metadata


def test_both_architectures_give_the_same_installable_bytes(tmp_path: Path) -> None:
    made = []
    for machine in ("x86_64", "aarch64"):
        (tmp_path / machine).mkdir()
        source = _index_wheel(tmp_path / machine, machine)
        made.append(wheel.pure(source, tmp_path / machine, ["torch", "torchvision", "ray"]))
    assert made[0].read_bytes() == made[1].read_bytes()
    command = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    target = tmp_path / "installed"
    subprocess.run([sys.executable, *command, str(target), str(made[0])], check=True)
    assert (target / "vllm/model_executor/E=1,N=2.json").is_file()


def test_a_setup_py_that_wants_rust(tmp_path: Path) -> None:
    """As in vLLM since 0.23 (setup.py): the wheel is pure Python."""
    (tmp_path / "one.py").write_text("")
    (tmp_path / "setup.py").write_text(
        "from setuptools import setup\n"
        "from setuptools_rust import Binding, RustExtension\n"
        "from setuptools_rust.build import build_rust\n"
        "class own(build_rust):\n    pass\n"
        "rust = [RustExtension('a.b', path='Cargo.toml', binding=Binding.Exec, optional=False)]\n"
        "setup(name='one', version='1', py_modules=['one'], rust_extensions=rust,\n"
        "      cmdclass={'build_rust': own})\n"
    )
    subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(wheel.NO_DEVICE), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    (made,) = (tmp_path / "dist").iterdir()
    assert made.name == "one-1-py3-none-any.whl"
