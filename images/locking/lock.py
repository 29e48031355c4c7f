"""The lock: the packages of a release for each architecture, in one slice for each layer.

A slice is a requirements file with pins and hashes, `locks/{release}/{arch}/{layer}.txt`.
Its first line is a digest of the rest. `locks/{release}/sources.txt` pins the source distribution
of vLLM, or `vllm-wheel.txt` its wheel, and `lock.json` records the inputs, so that `check` needs no
network to see whether the matrix has changed. What the index lacks is in `{arch}/vendor.txt`, which
images.locking.vendor completes. `{arch}/stand-in/` has the layers that differ in a stand-in. Two
slices beside the releases are for tools that the build installs.
"""

from __future__ import annotations

import datetime
import email
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError, user_error
from common.paths import ROOT
from common.terminal import Say
from images.locking.uv import UV, uv
from images.matrix import STAND_IN, VENDOR_PACKAGES, Arch, Debian, Matrix, Release

LOCKS = ROOT / "images" / "locks"
BUILD_WHEEL = ROOT / "images" / "build" / "stages" / "wheel.py"
RECORD = "lock.json"
SOURCES = "sources"  # the slice of source distributions to build wheels from
VLLM_WHEEL = "vllm-wheel"  # or of vLLM's wheel, to make the one without a device from
VENDOR = "vendor"  # the slice of what the index lacks
DIGEST = "# sha256 of the lines below: "

# triton and triton-ascend have the same directory; an NPU does not use the nvidia libraries that
# torch requires on amd64 (torch 2.8.0: METADATA, platform_machine == "x86_64").
EXCLUDED = re.compile(r"(pytorch-)?triton|nvidia-.*|cuda-.*")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
COMPLETES = "invoke build, or invoke lock, completes the slice"
MANYLINUX = "manylinux_2_35"  # the glibc of ubuntu22.04, the older of the two


@dataclass(frozen=True)
class Pinned:
    """One package of a slice."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.name}=={self.version}", *(f"--hash={value}" for value in self.hashes)]
        return " \\\n    ".join(lines)


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
    """The pins of torch-npu and triton-ascend, but for what the vendor's slice has."""
    return [
        f"{name}=={release.version_of(name)}"
        for name in VENDOR_PACKAGES
        if name not in release.vendor
    ]


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
    """Read a slice and check its digest. Raises ValueError, and OSError such as for no file."""
    text = path.read_text(encoding="utf-8")
    pinned = list(parse(text))
    if text != with_digest(text.partition("\n")[2]):
        raise ValueError("was changed by hand: its first line is not the digest of the others")
    return pinned


def vllm_source(release: Release) -> str:
    """The slice of what vLLM's wheel without a device is made from."""
    return VLLM_WHEEL if release.vllm_wheel_without else SOURCES


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


# ---- checking ------------------------------------------------------------------------------------


def read(
    matrix: Matrix, release: Release, arch: str, locks: Path = LOCKS, stand_in: bool = False
) -> dict[str, list[Pinned]]:
    """The slices of an image for an architecture, file → packages. Raises UserError (65)."""
    slices, problems = _read(matrix, release, arch, locks)
    if problems:
        raise UserError(problems, EX_DATAERR)
    del slices[vllm_source(release)]  # what a wheel is made from; the wheel has a slice too
    own = [f"{STAND_IN}/{layer}" for layer in matrix.stand_in_layers(release)]
    unused = [name.rpartition("/")[2] for name in own] if stand_in else own
    return {name: found for name, found in slices.items() if name not in unused}


def complete(release: Release, arches: Iterable[str], locks: Path = LOCKS) -> bool:
    """Whether a lock has a slice for all that comes from the vendor."""
    return not release.vendor or all(
        slice_path(release, arch, VENDOR, locks).is_file() for arch in arches
    )


def check(matrix: Matrix, release: Release, locks: Path = LOCKS) -> list[Finding]:
    """Compare the lock of a release with the matrix, without a network."""
    remedy = f"invoke lock --release {release.name}"
    record = locks / release.name / RECORD
    if not record.is_file():
        return [Finding(f"locks/{release.name}", "this release has no lock", remedy)]
    problems = check_record(record, inputs(matrix, release), f"locks/{release.name}", remedy)
    for arch in matrix.arches:
        slices, unreadable = _read(matrix, release, arch, locks)
        problems += unreadable
        if unreadable:
            continue
        where = f"locks/{release.name}/{arch}"
        problems += check_slices(where, matrix.layers, requirements(matrix, release), slices)
        problems += _check_vendor(release, where, slices.get(VENDOR))
        if own := matrix.stand_in_layers(release):
            replaced = {layer: slices[f"{STAND_IN}/{layer}"] for layer in own}
            wanted = requirements(matrix, matrix.stand_in_release(release))
            problems += check_slices(where, matrix.layers, wanted, {**slices, **replaced})
        compiled = {p.name for p in slices.get("compiled", [])} ^ set(release.compiled)
        what = "must be in both the lock and the release's packages to compile"
        fix = f"compiled in images/releases/{release.name}.yaml lists them"
        problems += (
            Finding(f"{where}/compiled.txt", f"{name} {what}", fix) for name in sorted(compiled)
        )
        source = vllm_source(release)
        sources = [f"{p.name}=={p.version}" for p in slices[source]]
        if sources != [f"vllm=={release.vllm}"]:
            what = f"has {', '.join(sources) or 'nothing'}, not vllm=={release.vllm}"
            problems.append(Finding(f"locks/{release.name}/{source}.txt", what, remedy))
    return list(dict.fromkeys(problems))


def _check_vendor(release: Release, where: str, pinned: list[Pinned] | None) -> Iterator[Finding]:
    """Compare a vendor slice, if there is one, with the release's pins."""
    found = {one.name: one.version for one in pinned or ()}
    file = f"{where}/{VENDOR}.txt"
    for name in release.vendor if pinned is not None else ():
        wanted = release.version_of(name)
        if name not in found:
            yield Finding(file, f"lacks {name}", f"delete the file: {COMPLETES}")
        elif Version(found[name]).public != Version(wanted).public:
            what = f"{name} is {found[name]}, the matrix says {wanted}"
            yield Finding(file, what, f"delete the file: {COMPLETES}")


def checked(matrix: Matrix, release: str | None, locks: Path = LOCKS) -> list[Release]:
    """The releases to check: the named one, or all with a lock."""
    if release:
        return [matrix.release(release)]
    return [one for name, one in matrix.releases.items() if (locks / name).is_dir()]


def check_tools(matrix: Matrix, locks: Path = LOCKS) -> Iterator[Finding]:
    """Compare `tools.txt` and `stand-in.txt` with the matrix."""
    for name, debian in tool_slices(matrix).items():
        path, where = locks / f"{name}.txt", f"locks/{name}.txt"
        try:
            pins = {f"{p.name}=={p.version}" for p in read_slice(path)}
        except FileNotFoundError:
            pins = set()
        except (ValueError, OSError) as error:
            yield Finding(where, str(error), "invoke lock --tools")
            continue
        for requirement in debian.requirements:
            if requirement not in pins:
                yield Finding(where, f"lacks {requirement}", "invoke lock --tools")


def _read(
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
            problems.append(Finding(_name(path, locks), "is missing", remedy))
        except (ValueError, OSError) as error:
            problems.append(Finding(_name(path, locks), str(error), remedy))
    return slices, problems


def check_record(record: Path, wanted: Mapping[str, Any], where: str, remedy: str) -> list[Finding]:
    """Compare the recorded inputs of a lock with the matrix."""
    try:
        locked = dict(json.loads(record.read_text()))
    except (ValueError, TypeError, OSError) as error:
        return [Finding(f"{where}/{RECORD}", f"cannot be read: {error}", remedy)]
    return [
        Finding(
            f"{where}/{RECORD}: {key}",
            f"the matrix says {_difference(wanted.get(key), locked.get(key))}",
            remedy,
        )
        for key in sorted(wanted.keys() | locked.keys())
        if wanted.get(key) != locked.get(key)
    ]


def check_slices(
    where: str,
    layers: Mapping[str, Iterable[str]],
    requirements: Iterable[str],
    slices: Mapping[str, list[Pinned]],
) -> Iterator[Finding]:
    """Check that each package is in its layer only, none is excluded, and none is missing."""
    owner: dict[str, str] = {}
    versions: dict[str, str] = {}
    for layer in layers:
        file = f"{where}/{layer}.txt"
        for package in slices[layer]:
            name, right = package.name, layer_of(layers, package.name)
            if EXCLUDED.fullmatch(name):
                yield Finding(file, f"{name} must not be in an image")
            if name in owner:
                yield Finding(file, f"{name} is also in {owner[name]}.txt")
            elif right != layer:
                yield Finding(file, f"{name} belongs to {right}.txt")
            owner[name], versions[name] = layer, package.version
    for wanted in map(Requirement, requirements):
        found = versions.get(canonicalize_name(wanted.name))
        if found is None:
            yield Finding(where, f"no slice has {wanted.name}")
        elif not wanted.specifier.contains(found, prereleases=True):
            yield Finding(where, f"{wanted.name} is {found}, the matrix says {wanted.specifier}")


def _difference(wanted: Any, locked: Any) -> str:
    if isinstance(wanted, list) and isinstance(locked, list):
        new, gone = [w for w in wanted if w not in locked], [x for x in locked if x not in wanted]
        more, less = ", ".join(map(str, new)), ", ".join(map(str, gone))
        return f"{more or 'nothing new'}; the lock {less or 'has nothing else'}"
    return f"{wanted}, the lock {locked}"


def _name(path: Path, locks: Path) -> str:
    return f"locks/{path.relative_to(locks)}"
