"""What is left of a torch for the CPU: which stubs, and libraries that still load."""

from __future__ import annotations

import base64
import csv
import ctypes
import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.build.stages.standin import assembly, cpu_torch
from images.build.stages.standin.elf import ElfFile, Reference
from images.build.stages.standin.stubs import Stub, Vendor

HOST = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
CUDA, CUDART, PYTHON = "libtorch_cuda.so", "libcudart.so.12", "libtorch_python.so"
TYPE, PLACE = "_ZTIN4c10d16ProcessGroupNCCLE", "_ZN4c10d15get_gil_checkerEv"


def _file(name: str, needed: tuple[str, ...] = (), defined: tuple[str, ...] = ()) -> ElfFile:
    return ElfFile(f"lib/{name}", name, needed=needed, defined=frozenset(defined))


def _torch() -> list[ElfFile]:
    """Of an index's build: what is called on the right is defined on the left, or not here."""
    called = [
        Reference("cpu_f"),
        Reference("gpu_f"),
        Reference("shmem_f"),  # libtorch_cuda.so loads the library that has it
        Reference("shared_f"),
        Reference(TYPE, "object"),
        Reference(PLACE),
        Reference("cudaGetDevice", "function", CUDART, CUDART),
        Reference("cuFileRead"),
        Reference("PyErr_Occurred"),
        Reference("_ZNSt6localeD1Ev"),
        Reference("memcpy", "function", "libc.so.6", "GLIBC_2.14"),
    ]
    return [
        _file("libtorch_cpu.so", (), ("cpu_f", "shared_f")),
        _file(CUDA, ("libtorch_nvshmem.so",), ("gpu_f", "shared_f", TYPE, PLACE)),
        _file("libtorch_nvshmem.so", (), ("shmem_f",)),
        _file("libtorch_cuda_linalg.so", ("libcusolver.so.11",)),
        ElfFile(
            f"lib/{PYTHON}",
            PYTHON,
            needed=("libtorch_cpu.so", CUDA, CUDART, "libc.so.6"),
            references=tuple(called),
            wanted_versions=frozenset({(CUDART, CUDART)}),
        ),
    ]


def test_a_stub_has_what_the_rest_of_torch_calls_of_the_gpus_libraries() -> None:
    stubs = {stub.soname: stub for stub in cpu_torch.plan(_torch())}
    assert sorted(stubs) == [CUDART, CUDA]
    kinds = {one.name: one.kind for one in stubs[CUDA].symbols}
    assert kinds == {"gpu_f": "function", "shmem_f": "function", TYPE: "type", PLACE: "place"}
    assert [one.name for one in stubs[CUDART].symbols] == ["cuFileRead", "cudaGetDevice"]


def test_what_the_base_defines_is_never_stubbed() -> None:
    stubbed = {one.name for stub in cpu_torch.plan(_torch()) for one in stub.symbols}
    assert not stubbed & {"PyErr_Occurred", "_ZNSt6localeD1Ev", "memcpy", "shared_f"}


def test_the_plan_does_not_depend_on_the_order() -> None:
    assert cpu_torch.plan(_torch()) == cpu_torch.plan(_torch()[::-1])


def test_a_type_information_has_its_name_and_a_place_can_be_written_to() -> None:
    stub = Stub(CUDA, Vendor.NVIDIA, (Reference(PLACE, "place"), Reference(TYPE, "type")))
    text = assembly.assembly(stub, "amd64")
    assert '.asciz "N4c10d16ProcessGroupNCCLE"' in text
    assert f"{PLACE}:\nleaq .Lplace(%rip), %rax\nret\n" in text
    assert ".bss\n.p2align 4\n.Lplace:\n.zero 256" in text


def test_a_build_for_the_processor_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "torch/lib/libtorch_cpu.so"
    file.parent.mkdir(parents=True)
    file.write_text("for the CPU")
    assert cpu_torch.remove_gpu_libraries(tmp_path / "torch", "arm64") == []
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("arch", ["arm64", "amd64"])
def test_an_installed_torch(tmp_path: Path, arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "opt/vllm/lib/python3.11/site-packages"
    lib = site / "torch/lib"
    _compiled(lib, arch)
    record = site / "torch-2.9.1.dist-info/RECORD"
    record.parent.mkdir()
    record.write_text("torch/__init__.py,,\n" + "".join(map(_line, sorted(lib.iterdir()))))

    cpu_torch.main([str(tmp_path), "--arch", arch])
    assert capsys.readouterr().err == f"removed from torch: {CUDA}\n"
    assert sorted(path.name for path in lib.iterdir()) == [CUDART, CUDA, PYTHON]
    rows = {row[0]: row[1:] for row in csv.reader(record.open())}
    assert rows.pop("torch/__init__.py") == ["", ""]
    assert rows == {
        row[0]: row[1:] for row in csv.reader(map(_line, [lib / CUDART, lib / CUDA, lib / PYTHON]))
    }
    assert {path.stat().st_mtime for path in (lib, lib / CUDA)} == {cpu_torch.EPOCH}
    if arch == HOST:
        for name in (CUDART, CUDA, PYTHON):  # as the loader would, in this order
            loaded = ctypes.CDLL(str(lib / name), ctypes.RTLD_GLOBAL)
        assert loaded.cudaGetDevice() == 100  # no GPU
        assert loaded.gpu_f() == 0


def _compiled(lib: Path, arch: str) -> None:
    """Two libraries of a torch, of which one calls the other and CUDA's."""
    linked = lib.parents[5] / "linked"
    cudart = (Reference("cudaGetDevice", "function", CUDART, CUDART),)
    made = [
        (Stub(CUDA, Vendor.NVIDIA, (Reference("gpu_f"), Reference(TYPE, "object"))), lib / CUDA),
        (Stub(CUDART, Vendor.NVIDIA, cudart, (CUDART,)), linked / CUDART),
    ]
    assembly.compile_all([(assembly.library(stub, arch), path) for stub, path in made], arch)
    names = ("gpu_f", TYPE, "cudaGetDevice")
    text = ".data\n" + "".join(f".quad {name}\n" for name in names)
    paths = [str(path) for _, path in made]

    def run(command: Sequence[str], variables: dict[str, str]) -> None:
        assembly.run_compiler([*command, *paths], variables)

    assembly.compile_all([(assembly.Library(PYTHON, text, ""), lib / PYTHON)], arch, run)


def _line(path: Path) -> str:
    content = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"torch/lib/{path.name},sha256={digest},{len(content)}\n"
