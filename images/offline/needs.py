"""Determine, without the network, what images need from it and what a bundle lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from common.errors import EX_DATAERR, Finding, UserError
from common.terminal import Say
from images.build import graph, rootfs
from images.build.bundle import REMEDY, Bundle
from images.build.inputs import Inputs
from images.build.options import native_arch
from images.build.targets import BuildTarget
from images.locking import slices
from images.matrix import Arch, Debian

FROM_SOURCE = ("sources.txt", "vllm-ascend.txt", "compiled.txt")
UNPINNED = ("packages.sh", "pip wheel")  # steps that install what no lock pins
MADE_HERE = ("vllm.txt",)  # a wheel built in a stage


@dataclass(frozen=True)
class Slice:
    """A requirements file below locks/, and the machine and Python of its packages."""

    path: str
    machine: str
    python: str

    @property
    def from_source(self) -> bool:
        return PurePosixPath(self.path).name in FROM_SOURCE

    def pinned(self) -> list[slices.Pinned]:
        return list(slices.parse((slices.LOCKS / self.path).read_text()))


@dataclass(frozen=True)
class Needs:
    builder: str
    slices: tuple[Slice, ...]
    roots: dict[str, tuple[Debian, Arch]]  # archive → its packages, its architecture
    stages: dict[str, tuple[str, ...]]  # target → stages that need a registry or a package manager
    sources: dict[str, str]  # name → address
    inputs: dict[str, Inputs]  # target → …
    pins: dict[str, dict[str, str]]  # target → …


def collect(targets: list[BuildTarget]) -> Needs:
    """What all the targets need."""
    matrix, arches = targets[0].matrix, targets[0].options.arches
    builder = native_arch(matrix)
    slices: dict[str, Slice] = {}
    roots: dict[str, tuple[Debian, Arch]] = {}
    stages: dict[str, tuple[str, ...]] = {}
    sources: dict[str, str] = {}
    for target in targets:
        rendered = target.dockerfile.stages
        stages[target.name] = _beyond_locks(target)
        cut = {
            name: replace(stage, parents=(), files=()) if name in stages[target.name] else stage
            for name, stage in rendered.items()
        }
        used = {*graph.used_by(cut, "image"), *graph.used_by(cut, "environment")}
        files = [file for name in used for file in cut[name].files]
        python = target.python
        for _, path in (file for file in files if file[0] == "locks"):
            if PurePosixPath(path).name in MADE_HERE:
                continue
            for arch in arches if "${TARGETARCH}" in path else [builder]:
                one = Slice(path.replace("${TARGETARCH}", arch.name), arch.machine, python)
                slices[one.path] = one
        if target.root:
            name, debian = target.root
            roots |= {f"{name}-{arch.name}.tar": (debian, arch) for arch in arches}
        if target.tools_image is None:
            roots[f"tools-{builder.name}.tar"] = (matrix.tools, builder)
        taken = {context for context, _ in files}
        for name, place in target.contexts.items():
            if name in taken and name.endswith("-source") and isinstance(place, str):
                sources[name.removesuffix("-source")] = place
    return Needs(
        builder.name,
        tuple(slices[path] for path in sorted(slices)),
        roots,
        {name: found for name, found in stages.items() if found},
        sources,
        {target.name: target.inputs for target in targets},
        {target.name: target.variant.pins for target in targets},
    )


def _beyond_locks(target: BuildTarget) -> tuple[str, ...]:
    """The stages that start from an image, run a package manager, or build with unpinned helpers.

    A stage that compiles is replaced by the `layer-…` that takes its result.
    """
    stages = target.dockerfile.stages
    return tuple(
        name.replace("build-", "layer-")
        for name in target.dockerfile.used
        if stages[name].image or any(word in stages[name].text for word in UNPINNED)
    )


def fingerprints(needs: Needs) -> dict[str, str]:
    """Archive of a root file system → what identifies it."""
    return {name: rootfs.fingerprint(debian, arch) for name, (debian, arch) in needs.roots.items()}


# ---- what a bundle lacks -------------------------------------------------------------------------


def check(targets: list[BuildTarget], bundle: Bundle, say: Say) -> None:
    """Compare a bundle with its index and with the present tree. Raises UserError (65)."""
    needs = collect(targets)
    say(f"checking {len(bundle.files)} files of {bundle.directory}")
    problems = [*bundle.damage(), *differences(needs, bundle)]
    if problems:
        raise UserError(dict.fromkeys(problems), EX_DATAERR)
    for name, now in needs.inputs.items():
        made = bundle.images.get(name)
        if made and made.inputs != now.digest:
            before = Inputs(made.inputs, made.stages).annotations
            changed = ", ".join(now.changed(before)) or "the architectures"
            say(f"{name}: changed since the bundle was made: {changed}; the bundle fits")


def differences(needs: Needs, bundle: Bundle) -> list[Finding]:
    """Compare what the present tree needs with what was fetched."""
    problems = []
    if bundle.builder != needs.builder:
        what = f"was made for builds on {bundle.builder}; this is {needs.builder}"
        problems.append(Finding(str(bundle.directory), what, REMEDY))
    for target, pins in needs.pins.items():
        if image := bundle.images.get(target):
            problems += _pins(target, pins, dict(image.pins))
    for one in needs.slices:
        problems += _slice(one, bundle)
    present = fingerprints(needs)
    problems += [
        Finding(f"roots/{name}", _other(name in bundle.roots, "Debian packages"), REMEDY)
        for name, fingerprint in present.items()
        if bundle.roots.get(name) != fingerprint
    ]
    problems += [
        Finding(f"{target}: {stage}", _other(False, "stage"), REMEDY)
        for target, stages in needs.stages.items()
        for stage in stages
        if stage not in bundle.stages.get(target, {})
    ]
    problems += [
        Finding(f"source {name}", f"is {address}, the bundle has {found or 'none'}", REMEDY)
        for name, address in needs.sources.items()
        if (found := bundle.sources.get(name)) != address
    ]
    return list(dict.fromkeys(problems))


def _other(there: bool, what: str) -> str:
    return f"was made from other {what}" if there else "is not in the bundle"


def _pins(target: str, pins: dict[str, str], fetched: dict[str, str]) -> list[Finding]:
    return [
        Finding(
            f"pin {name} of {target}",
            f"is {pins.get(name, 'gone')}, the bundle was made for {fetched.get(name, 'none')}",
            REMEDY,
        )
        for name in sorted(pins.keys() | fetched.keys())
        if pins.get(name) != fetched.get(name)
    ]


def _slice(one: Slice, bundle: Bundle) -> list[Finding]:
    where = f"locks/{one.path}"
    if one.path not in bundle.slices:
        return [Finding(where, _other(False, "packages"), REMEDY)]
    problems = []
    for pin in one.pinned():
        package = bundle.slices[one.path].get(pin.name)
        version = package.version if package else "none"
        if package is None or version != pin.version:
            what = f"{pin.name} is {pin.version}, the bundle has {version}"
            problems.append(Finding(where, what, REMEDY))
            continue
        hashes = {f"sha256:{bundle.files[f'wheels/{name}'].sha256}" for name in package.files}
        if not hashes or not hashes <= set(pin.hashes):
            what = f"{pin.name} {version} in the bundle is not a file of the lock"
            problems.append(Finding(where, what, REMEDY))
    return problems
