"""Of an installed torch, what the processor runs: `python3 -m standin.processor LAYER --arch ARCH`.

PyTorch has what only a GPU runs in libraries of their own. In a build for CUDA they are two thirds
of it, and need libraries of NVIDIA that are larger than torch. Here they go, and where another
library still needs one by name it gets a stub: torch then finds no GPU, as on any machine without
one, and computes as before. A build that has no such libraries stays as it is.
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
# What nothing here defines is the base's (Python, libstdc++, libc), unless it is called like this.
NVIDIA = re.compile(r"_*(cu|nccl|nv)[A-Za-z]")
EPOCH = 315532800  # layer.py's
# Its caller writes to what it refers to, when libtorch_python.so is loaded.
_PLACES = frozenset({"_ZN4c10d15get_gil_checkerEv"})


def plan(files: Sequence[ElfFile]) -> list[Stub]:
    """The stubs that the files of a torch need once those of the GPU are gone."""
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
    # All in the first: whatever loads one of them loads it.
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


def leave(torch: Path, arch: str) -> list[str]:
    """Take the libraries of the GPU out of an installed torch; the names of those that went."""
    folder = torch / "lib"
    gone = sorted(path for path in folder.glob("*.so") if GPU.fullmatch(path.name))
    if not gone:
        return []
    stubs = plan(scan(torch, arch))
    for path in gone:
        path.unlink()
    compile_all([(library(stub, arch), folder / stub.soname) for stub in stubs], arch)
    made = [folder / stub.soname for stub in stubs]
    record(torch.parent, gone, made)
    for path in (*made, folder):
        os.utime(path, (EPOCH, EPOCH))
    return [path.name for path in gone]


def record(site: Path, gone: Iterable[Path], made: Iterable[Path]) -> None:
    """Let torch's RECORD name what is there."""
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
    parser = argparse.ArgumentParser(prog="standin.processor", description=__doc__)
    parser.add_argument("layer", type=Path)
    parser.add_argument("--arch", required=True, choices=("arm64", "amd64"))
    given = parser.parse_args(arguments)
    for torch in given.layer.glob("**/site-packages/torch"):
        gone = leave(torch, given.arch)
        print(f"left out of torch: {', '.join(gone) or 'nothing'}", file=sys.stderr)


if __name__ == "__main__":
    main()
