"""The lock: the packages of a release for each architecture, in one slice for each layer.

A slice is a requirements file with pins and hashes, `locks/{release}/{arch}/{layer}.txt`.
Its first line is a digest of the rest. `locks/{release}/sources.txt` pins the source distribution
of vLLM, or `vllm-wheel.txt` its wheel. `lock.json` records the inputs, which images.locking.checks
compares with the matrix. `{arch}/vendor.txt` has what the index lacks; images.locking.vendor writes
it. `{arch}/stand-in/` has the layers that differ in a stand-in. Two slices beside the releases,
`tools.txt` and `stand-in.txt`, are for what the build itself installs.
"""

from __future__ import annotations

import datetime
import email
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from common.errors import EX_UNAVAILABLE, user_error
from common.paths import ROOT
from common.terminal import Say
from images.locking.slices import (
    EXCLUDED,
    LOCKS,
    RECORD,
    SOURCES,
    VENDOR,
    Pinned,
    layer_of,
    parse,
    render,
    slice_path,
    vllm_source,
)
from images.locking.uv import UV, uv
from images.matrix import STAND_IN, VENDOR_PACKAGES, Arch, Debian, Matrix, Release

BUILD_WHEEL = ROOT / "images" / "build" / "stages" / "wheel.py"

MANYLINUX = "manylinux_2_35"  # the glibc of ubuntu22.04, the older of the two


def inputs(matrix: Matrix, release: Release) -> dict[str, Any]:
    """The inputs of a resolution, as lock.json records them."""
    stand_in = matrix.stand_in_release(release)
    return {
        "python": release.python,
        "published": str(release.published),
        "later": {name: str(day) for name, day in later(matrix, release).items()},
        "layers": {name: list(packages) for name, packages in matrix.layers.items()},
        "requirements": requirements(matrix, release),
        **({"stand-in": requirements(matrix, stand_in)} if matrix.stand_in_layers(release) else {}),
    }


def later(matrix: Matrix, release: Release) -> dict[str, datetime.date]:
    """Packages that are resolved as of another day than the release's."""
    return {**matrix.utilities.later, **release.later}


def requirements(matrix: Matrix, release: Release) -> list[str]:
    """The direct requirements of a release, pins first."""
    return [
        f"vllm[audio]=={release.vllm}+empty",
        f"vllm-ascend=={release.vllm_ascend}",
        f"torch=={release.torch}",
        *own_pins(release),
        f"{release.mooncake.package}=={release.mooncake.version}",
        *release.requirements,
        *matrix.common_requirements,
        *matrix.utilities.requirements,
        *matrix.cann_python,
    ]


def own_pins(release: Release) -> list[str]:
    """The pins of torch-npu and triton-ascend, without those in the vendor slice."""
    return [
        f"{name}=={release.version_of(name)}"
        for name in VENDOR_PACKAGES
        if name not in release.vendor
    ]


# ---- resolving -----------------------------------------------------------------------------------


def lock(
    matrix: Matrix,
    release: Release,
    torch_index: str | None,
    say: Say,
    locks: Path = LOCKS,
    find_links: Iterable[str] = (),
) -> Path:
    """Resolve a release for every architecture, and replace all of its slices or none.

    `torch_index` is PyTorch's CPU index, which has a torch without CUDA for amd64; `find_links` are
    directories or pages of wheels that the index lacks. Raises UserError (69) with the resolver's
    message.
    """
    with tempfile.TemporaryDirectory(prefix="lock-") as scratch:
        work = Path(scratch)
        say(f"{release.name}: building vLLM {release.vllm} without a device")
        sources, wheels = _empty_vllm(release, work, locks)
        made = work / release.name
        for arch in matrix.arches.values():
            say(f"{release.name}: resolving for {arch.name}, Python {release.python}")
            places = (str(wheels), *find_links)
            pinned = _resolve(matrix, release, arch, places, torch_index)
            write(pinned, matrix.layers, made / arch.name)
            if own := matrix.stand_in_layers(release):
                stand_in = matrix.stand_in_release(release)
                say(f"{release.name}: resolving a stand-in for {arch.name}")
                replaced = _resolve(matrix, stand_in, arch, places, torch_index)
                write(replaced, matrix.layers, made / arch.name / STAND_IN, own)
            vendor = slice_path(release, arch.name, VENDOR, locks)
            if vendor.is_file():
                shutil.copy2(vendor, made / arch.name)
            say(f"{release.name}: {len(pinned)} packages")
        record = json.dumps(inputs(matrix, release), indent=1, sort_keys=True)
        (made / f"{vllm_source(release)}.txt").write_text(render(sources))
        (made / RECORD).write_text(record + "\n")
        replace(made, locks / release.name)
    return locks / release.name


def write(
    pinned: list[Pinned],
    layers: Mapping[str, Iterable[str]],
    directory: Path,
    only: Iterable[str] = (),
) -> None:
    """Write a slice for each layer, or only for some."""
    directory.mkdir(parents=True, exist_ok=True)
    for layer in only or layers:
        packages = [p for p in pinned if layer_of(layers, p.name) == layer]
        (directory / f"{layer}.txt").write_text(render(packages))


def lock_tools(matrix: Matrix, say: Say, locks: Path = LOCKS) -> None:
    """Resolve the slices of build tools: `tools.txt` and `stand-in.txt`."""
    for name, debian in tool_slices(matrix).items():
        say(f"{name}: resolving")
        text = resolve(debian.requirements, "--python-version", debian.python)
        locks.mkdir(exist_ok=True)
        (locks / f"{name}.txt").write_text(render(parse(text)))


def tool_slices(matrix: Matrix) -> dict[str, Debian]:
    return {"tools": matrix.tools, STAND_IN: matrix.stand_in}


def replace(made: Path, target: Path) -> None:
    """Replace a directory with a finished one, as a whole."""
    new, old = (target.with_name(f".{target.name}.{end}") for end in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, new)
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _empty_vllm(release: Release, work: Path, locks: Path) -> tuple[list[Pinned], Path]:
    """Build vLLM's wheel without a device; returns the pinned source and the wheel's directory."""
    sources = list(
        parse(resolve([f"vllm=={release.vllm}"], "--no-deps", "--python-version", release.python))
    )
    pins = work / f"{SOURCES}.txt"
    pins.write_text(render(sources))
    venv = work / "venv"
    uv("venv", "--quiet", "--seed", str(venv))
    python = str(venv / "bin" / "python")
    tools = ("--require-hashes", "--no-deps", "-r", str(locks / "tools.txt"))
    uv("pip", "install", "--quiet", "--python", python, *tools)
    search = os.pathsep.join([str(Path(UV).parent.absolute()), os.environ.get("PATH", "")])
    without = ",".join(release.vllm_wheel_without)
    built = subprocess.run(
        [
            *(python, str(BUILD_WHEEL), "vllm", str(pins), str(work / "wheels")),
            *(["--without", without] if without else []),
        ],
        env={**os.environ, "PATH": search, "VLLM_TARGET_DEVICE": "empty"},
        stdout=subprocess.DEVNULL,
    )
    if built.returncode:
        raise user_error(
            f"vllm {release.vllm}",
            "no wheel without a device can be made (the reason is above)",
            "vllm_wheel_without: [NAME, …] for a vLLM of which the index has wheels only",
            EX_UNAVAILABLE,
        )
    return sources, work / "wheels"


def overrides(release: Release, vllm: Iterable[str]) -> list[str]:
    """Requirements that override those of other packages; `vllm` are those of vLLM's wheel.

    Upstream installs vllm-ascend after vLLM, and packages of its Dockerfile last, so the later one
    wins a conflict. torch-npu's metadata requires torch==…+cpu on x86_64, which the package index
    does not have.
    """
    own = [*own_pins(release), *(f'{name} ; sys_platform == "win32"' for name in release.vendor)]
    theirs = {canonicalize_name(one.name): one for one in map(Requirement, vllm)}
    for requirement in map(Requirement, release.requirements):
        other = theirs.get(canonicalize_name(requirement.name))
        if other and not compatible(requirement.specifier, other.specifier):
            extras = f"[{','.join(sorted(other.extras))}]" if other.extras else ""
            own.append(f"{requirement.name}{extras}{requirement.specifier}")
    return own


def compatible(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether a version can satisfy both. Tries the bounds of each, and versions next to them."""
    ends = [part.version.removesuffix(".*") for part in (*one, *other)]
    near = [version for end in ends for version in (end, f"{end}.1", f"{end}.dev0")]
    return not (one and other) or any(
        one.contains(version, prereleases=True) and other.contains(version, prereleases=True)
        for version in near
    )


def _required(wheels: Path) -> list[str]:
    """The requirements of vLLM's wheel, without those of extras."""
    (path,) = wheels.glob("vllm-*.whl")
    with zipfile.ZipFile(path) as opened:
        (metadata,) = (n for n in opened.namelist() if n.endswith(".dist-info/METADATA"))
        fields = email.message_from_bytes(opened.read(metadata))
    wanted = fields.get_all("Requires-Dist") or []
    return [one for one in wanted if "extra ==" not in one]


def _resolve(
    matrix: Matrix,
    release: Release,
    arch: Arch,
    places: tuple[str, ...],
    torch_index: str | None,
) -> list[Pinned]:
    days = [
        f"--exclude-newer-package={name}={end_of(day)}"
        for name, day in later(matrix, release).items()
    ]
    direct = requirements(matrix, release)
    torch = release.torch
    options = [f"--find-links={place}" for place in places]
    if torch_index and arch.name == "amd64":
        torch += "+cpu"
        direct[direct.index(f"torch=={release.torch}")] = f"torch=={torch}"
        options += ["--index", torch_index, "--index-strategy", "unsafe-best-match"]
        options += ["--exclude-newer-package=torch=false"]  # that index has no upload times
    text = resolve(
        direct,
        *options,
        *days,
        *("--exclude-newer", end_of(release.published)),
        *("--python-platform", f"{arch.machine}-{MANYLINUX}", "--python-version", release.python),
        *("--prerelease", "if-necessary-or-explicit"),
        overrides=[f"torch=={torch}", *overrides(release, _required(Path(places[0])))],
    )
    return [package for package in parse(text) if not EXCLUDED.fullmatch(package.name)]


def end_of(day: datetime.date) -> str:
    return f"{day}T23:59:59Z"


def resolve(wanted: Iterable[str], *options: str, overrides: Iterable[str] = ()) -> str:
    """Resolve `wanted` with uv to a requirements file with hashes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(overrides))
        file.flush()
        return uv(
            *("pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"),
            *("-", "--override", file.name, *options),
            stdin="\n".join(wanted),
        )
