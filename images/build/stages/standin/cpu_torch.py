"""Remove the GPU libraries of an installed torch: `python3 -m standin.cpu_torch LAYER --arch ARCH`.

Separate libraries of PyTorch hold the code for GPUs. In a build for CUDA they are two thirds of its
size, and need NVIDIA libraries that are larger than torch. This removes them, and adds a stub where
another library needs one by name. torch then finds no GPU, as on any machine without one, and
computes as before. A build without such libraries is not changed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from .assembly import compile_all, library
from .elf import ElfFile, Reference, scan
from .stubs import Stub, Vendor, plan_stubs, vendor

GPU = re.compile(r"libtorch_(cuda|cuda_linalg|nvshmem)\.so")
# The base defines the remaining symbols (Python, libstdc++, libc), except those that match.
NVIDIA = re.compile(r"_*(cu|nccl|nv)[A-Za-z]")
EPOCH = 315532800  # layer.py's
# libtorch_python.so writes to what this returns when it is loaded.
_PLACES = frozenset({"_ZN4c10d15get_gil_checkerEv"})


def plan(files: Sequence[ElfFile]) -> list[Stub]:
    """The stubs that the files of a torch need without the GPU libraries."""
    gone = [file for file in files if GPU.fullmatch(file.soname)]
    kept = [file for file in files if file not in gone]
    needed = {soname for file in kept for soname in file.needed}
    offered = frozenset().union(*(file.defined for file in gone))
    offered -= frozenset().union(*(file.defined for file in kept))
    wanted = {
        reference.name: replace(reference, kind=_kind(reference))
        for file in kept
        for reference in file.references
        if reference.name in offered
    }
    own = [file.soname for file in gone if file.soname in needed]
    # The first has all symbols: whatever loads one of the stubs loads it.
    stubs = [
        Stub(name, Vendor.NVIDIA, tuple(sorted(wanted.values())) if name == own[0] else ())
        for name in own
    ]
    left = [ElfFile(f"torch/lib/{name}", name, defined=frozenset(wanted)) for name in own]
    absent = needed - {file.soname for file in kept} - set(own)
    base = [ElfFile(name, name) for name in sorted(absent) if vendor(name) is None]
    others = {one.name for file in kept for one in file.references if not NVIDIA.match(one.name)}
    base.append(ElfFile("base", "base", defined=frozenset(others)))
    return [*stubs, *plan_stubs([*kept, *left], base).stubs]


def _kind(reference: Reference) -> str:
    if reference.name in _PLACES:
        return "place"
    return "type" if reference.name.startswith("_ZTI") else reference.kind


def remove_gpu_libraries(torch: Path, arch: str) -> list[str]:
    """Remove the GPU libraries of an installed torch, and return their names."""
    folder = torch / "lib"
    gone = sorted(path for path in folder.glob("*.so") if GPU.fullmatch(path.name))
    if not gone:
        return []
    stubs = plan(scan(torch, arch))
    for path in gone:
        path.unlink()
    compile_all([(library(stub, arch), folder / stub.soname) for stub in stubs], arch)
    made = [folder / stub.soname for stub in stubs]
    update_record(torch.parent, gone, made)
    for path in (*made, folder):
        os.utime(path, (EPOCH, EPOCH))
    return [path.name for path in gone]


def update_record(site: Path, gone: Iterable[Path], made: Iterable[Path]) -> None:
    """Update torch's RECORD."""
    (path,) = site.glob("torch-*.dist-info/RECORD")
    beginnings = tuple(f"{one.relative_to(site)}," for one in (*gone, *made))
    lines = path.read_text().splitlines(keepends=True)
    lines = [line for line in lines if not line.startswith(beginnings)]
    path.write_text("".join([*lines, *(_line(site, one) for one in made)]))
    os.utime(path, (EPOCH, EPOCH))


def _line(site: Path, path: Path) -> str:
    content = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{path.relative_to(site)},sha256={digest},{len(content)}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="standin.cpu_torch", description=__doc__)
    parser.add_argument("layer", type=Path)
    parser.add_argument("--arch", required=True, choices=("arm64", "amd64"))
    given = parser.parse_args(arguments)
    for torch in given.layer.glob("**/site-packages/torch"):
        gone = remove_gpu_libraries(torch, given.arch)
        print(f"removed from torch: {', '.join(gone) or 'nothing'}", file=sys.stderr)


if __name__ == "__main__":
    main()
