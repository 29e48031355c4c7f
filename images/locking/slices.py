"""The slices of a lock: requirements files with pins and hashes, and their digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from common.errors import EX_DATAERR, Finding, UserError
from common.paths import ROOT
from images.matrix import STAND_IN, Matrix, Release

LOCKS = ROOT / "images" / "locks"
RECORD = "lock.json"
SOURCES = "sources"  # the slice of source distributions to build wheels from
VLLM_WHEEL = "vllm-wheel"  # or of vLLM's wheel, from which the wheel without a device is made
VENDOR = "vendor"  # the slice of what the index lacks
DIGEST = "# sha256 of the lines below: "
# triton and triton-ascend have the same directory; an NPU does not use the nvidia libraries that
# torch requires on amd64 (torch 2.8.0: METADATA, platform_machine == "x86_64").
EXCLUDED = re.compile(r"(pytorch-)?triton|nvidia-.*|cuda-.*")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
COMPLETES = "invoke build, or invoke lock, completes the slice"


@dataclass(frozen=True)
class Pinned:
    """One package of a slice."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.name}=={self.version}", *(f"--hash={value}" for value in self.hashes)]
        return " \\\n    ".join(lines)


def layer_of(layers: Mapping[str, Iterable[str]], package: str) -> str:
    """The layer of a package: the one that names it, else the one with an empty list."""
    for layer, packages in layers.items():
        if package in packages:
            return layer
    return next(layer for layer, packages in layers.items() if not packages)


def slice_path(release: Release, arch: str, layer: str, locks: Path = LOCKS) -> Path:
    return locks / release.name / arch / f"{layer}.txt"


def parse(text: str) -> Iterator[Pinned]:
    """Read requirements of the form `name==version --hash=…`. Raises ValueError for others."""
    for entry in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if not entry.strip() or entry.startswith("#"):
            continue
        pin, *hashes = entry.split()
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", pin)
        if not match or not hashes or not all(map(HASH.fullmatch, hashes)):
            raise ValueError(f"not 'name==version --hash=sha256:…': {entry}")
        values = tuple(value.removeprefix("--hash=") for value in hashes)
        yield Pinned(canonicalize_name(match[1]), match[2], values)


def render(pinned: Iterable[Pinned]) -> str:
    """The text of a slice, with its digest."""
    return with_digest("".join(f"{one}\n" for one in sorted(pinned, key=lambda p: p.name)))


def with_digest(text: str) -> str:
    """Put the digest of a slice before its lines."""
    return f"{DIGEST}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def read_slice(path: Path) -> list[Pinned]:
    """Read a slice and check its digest. Raises ValueError, and OSError if it cannot be read."""
    text = path.read_text(encoding="utf-8")
    pinned = list(parse(text))
    if text != with_digest(text.partition("\n")[2]):
        raise ValueError("was changed by hand: its first line is not the digest of the others")
    return pinned


def vllm_source(release: Release) -> str:
    """The slice of the distribution from which vLLM's wheel without a device is made."""
    return VLLM_WHEEL if release.vllm_wheel_without else SOURCES


def read(
    matrix: Matrix, release: Release, arch: str, locks: Path = LOCKS, stand_in: bool = False
) -> dict[str, list[Pinned]]:
    """The slices of an image for an architecture, file → packages. Raises UserError (65)."""
    slices, problems = read_all(matrix, release, arch, locks)
    if problems:
        raise UserError(problems, EX_DATAERR)
    del slices[vllm_source(release)]  # what a wheel is made from; the wheel has a slice too
    own = [f"{STAND_IN}/{layer}" for layer in matrix.stand_in_layers(release)]
    unused = [name.rpartition("/")[2] for name in own] if stand_in else own
    return {name: found for name, found in slices.items() if name not in unused}


def complete(release: Release, arches: Iterable[str], locks: Path = LOCKS) -> bool:
    """Whether a lock has every vendor slice that it needs."""
    return not release.vendor or all(
        slice_path(release, arch, VENDOR, locks).is_file() for arch in arches
    )


def read_all(
    matrix: Matrix, release: Release, arch: str, locks: Path
) -> tuple[dict[str, list[Pinned]], list[Finding]]:
    names = [*matrix.layers, *(f"{STAND_IN}/{one}" for one in matrix.stand_in_layers(release))]
    if release.vendor and complete(release, [arch], locks):
        names.append(VENDOR)
    paths = {name: slice_path(release, arch, name, locks) for name in names}
    source = vllm_source(release)
    paths[source] = locks / release.name / f"{source}.txt"
    return read_slices(paths, f"invoke lock --release {release.name}", locks)


def read_slices(
    paths: Mapping[str, Path], remedy: str, locks: Path
) -> tuple[dict[str, list[Pinned]], list[Finding]]:
    """Layer → packages, and the problems of the files."""
    slices: dict[str, list[Pinned]] = {}
    problems = []
    for layer, path in paths.items():
        try:
            slices[layer] = read_slice(path)
        except FileNotFoundError:
            problems.append(Finding(place(path, locks), "is missing", remedy))
        except (ValueError, OSError) as error:
            problems.append(Finding(place(path, locks), str(error), remedy))
    return slices, problems


def place(path: Path, locks: Path) -> str:
    return f"locks/{path.relative_to(locks)}"
