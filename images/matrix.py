"""The matrix of pins, as frozen dataclasses; a file with an error is rejected.

`matrix.yaml` has what releases share, `releases/{release}.yaml` the pins of one release.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from common.errors import EX_DATAERR, Finding, UserError, did_you_mean, user_error
from common.yaml import Name, Reader, Requirements, Words, document

PATH = Path(__file__).parent / "matrix.yaml"
RELEASES = PATH.with_name("releases")
STAND_IN = "stand-in"
CPU = "cpu"
PACKAGERS = ("apt", "dnf")
SOURCES = ("vllm-ascend", "mooncake", "yalantinglibs")
# Layers that the Dockerfile names itself; nothing is compiled against the first.
TOP_LAYERS = ("utilities", "mooncake", "vllm", "vllm-ascend")
CPU_LAYERS = ("utilities", "vllm-cpu")
VENDOR_PACKAGES = ("torch-npu", "triton-ascend")
TORCH_FROM = PYTORCH, INDEX = ("pytorch", "index")

T = TypeVar("T")


@dataclass(frozen=True)
class Arch:
    """A CPU architecture, under its OCI name."""

    name: Name
    machine: str

    @property
    def oci_platform(self) -> str:
        return f"linux/{self.name}"


@dataclass(frozen=True)
class Os:
    """The distribution of a CANN base image."""

    name: Name
    packager: str
    tag_suffix: str


@dataclass(frozen=True)
class Platform:
    """A hardware generation; vllm-ascend's kernels are compiled for its `soc_version`.

    `roles`: whether the entrypoint knows enough of it to run a role (env/platforms).
    """

    name: Name
    title: str
    cann_tag: str
    soc_version: str
    tag_suffix: str
    mooncake: bool = True
    roles: bool = True


@dataclass(frozen=True)
class Mooncake:
    """Where Mooncake comes from: compiled against CANN (`source`), or its NPU `wheel`.

    `yalantinglibs`: the version that a compiled one is built with.
    """

    version: str
    origin: str = dataclasses.field(metadata={"key": "from"})
    yalantinglibs: str = ""

    @property
    def package(self) -> str:
        return "mooncake-transfer-engine" + ("-npu" if self.origin == "wheel" else "")


@dataclass(frozen=True)
class VendorPackage:
    """Where a package comes from that the package index lacks in the release's version.

    Its wheels are those of `urls`, architecture → address, or on an `index`. `nearest`: the version
    of the package index that a stand-in has instead.
    """

    nearest: str
    index: str = ""
    urls: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """One vllm-ascend release and everything it is built from.

    `cann_image`: where its CANN images are, if not where the matrix says.
    `vllm_wheel_without`: where the index has no source distribution of that vLLM, the requirements
    that its wheel has for CUDA only; vLLM is then made from the wheel.
    """

    name: Name
    published: datetime.date
    python: str
    cann: str
    platforms: Words
    vllm: str
    vllm_ascend: str
    torch: str
    torch_npu: str
    triton_ascend: str
    mooncake: Mooncake
    requirements: Requirements
    os_packages: Mapping[str, Words]
    later: Mapping[str, datetime.date] = dataclasses.field(default_factory=dict)
    compiled: Words = ()
    cann_image: str = ""
    vendor: Mapping[str, VendorPackage] = dataclasses.field(default_factory=dict)
    vllm_wheel_without: Words = ()

    def version_of(self, package: str) -> str:
        """The pin of torch-npu or triton-ascend."""
        return str(getattr(self, package.replace("-", "_")))

    @property
    def pins(self) -> dict[str, str]:
        """Component → version, in layer order, as labels, `matrix` and `--dry-run` show them."""
        return {
            "cann": self.cann,
            "torch": self.torch,
            "torch_npu": self.torch_npu,
            "triton_ascend": self.triton_ascend,
            "mooncake": self.mooncake.version,
            "vllm": self.vllm,
            "vllm_ascend": self.vllm_ascend,
        }


@dataclass(frozen=True)
class Images:
    """The images that a build starts from without `--base`, and its `tools`, which run uv."""

    cann: str
    os: Mapping[str, str]
    tools: str


@dataclass(frozen=True)
class Pair:
    """A torch_npu, the torch it is compiled against, and the CANN releases it runs on."""

    torch: str
    torch_npu: str
    cann: Words


@dataclass(frozen=True)
class Utilities:
    """What every image has besides vLLM; `later` as in a release."""

    requirements: Requirements
    later: Mapping[str, datetime.date] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Debian:
    """A root file system of Debian packages, and the Python packages installed on it."""

    suite: str
    python: str
    packages: Words
    requirements: Requirements


@dataclass(frozen=True)
class CpuVllm:
    """A vLLM for the CPU, and the torch it is compiled against.

    `facts`: the file of env/releases that the entrypoint reads where the release has another vLLM.
    `torch_from`: whose build of torch: PyTorch's for the CPU, or the package index's.
    """

    version: Name
    torch: str
    published: datetime.date
    python: str
    facts: str
    torch_from: str = PYTORCH

    @property
    def torch_version(self) -> str:
        """The version as its index names it."""
        return self.torch if self.torch_from == INDEX else f"{self.torch}+cpu"

    @property
    def lock(self) -> str:
        """The name of the lock."""
        return f"{CPU}-{self.version}"


@dataclass(frozen=True)
class Cpu:
    """The platform without NPUs: `cpu` in the matrix."""

    title: str
    image: str
    debian: Debian
    package: str
    without: Words
    requirements: Requirements
    alone: Requirements
    layers: Mapping[str, Words]
    vllm_versions: Mapping[str, CpuVllm]

    @property
    def platform(self) -> Platform:
        return Platform(CPU, self.title, "", "", f"-{CPU}", mooncake=False)

    @property
    def os(self) -> Os:
        return Os(self.debian.suite, "apt", "")


@dataclass(frozen=True)
class Variant:
    """One image: a release for a platform on an OS. Its architectures share the tag.

    `cpu_vllm`: the vLLM of platform cpu, which need not be the release's.
    """

    release: Release
    platform: Platform
    os: Os
    cpu_vllm: CpuVllm | None = None

    @property
    def tag(self) -> str:
        """The published tag, `{release}[-a3][-openeuler]`, as upstream names its images."""
        own = f"{self.release.name}{self.platform.tag_suffix}{self.os.tag_suffix}"
        if self.cpu_vllm and self.cpu_vllm.version != self.release.vllm:
            return f"{own}-vllm{self.cpu_vllm.version}"
        return own

    @property
    def facts(self) -> str:
        """The file of env/releases that the entrypoint reads."""
        if self.cpu_vllm and self.cpu_vllm.version != self.release.vllm:
            return self.cpu_vllm.facts
        return self.release.name

    @property
    def python(self) -> str:
        return self.cpu_vllm.python if self.cpu_vllm else self.release.python

    @property
    def published(self) -> datetime.date:
        return self.cpu_vllm.published if self.cpu_vllm else self.release.published

    @property
    def pins(self) -> dict[str, str]:
        """Component → version, in layer order, as labels, `matrix` and `--dry-run` show them."""
        if self.cpu_vllm:
            return {"torch": self.cpu_vllm.torch, "vllm": self.cpu_vllm.version}
        return self.release.pins

    @property
    def cann_tag(self) -> str:
        release = self.release
        return f"{release.cann}-{self.platform.cann_tag}-{self.os.name}-py{release.python}"


@dataclass(frozen=True)
class Matrix:
    """All of `matrix.yaml` with every release; its cross-references are valid.

    `common_os_packages`: packager → packages of every image besides upstream's; each release's
    `os_packages` includes them.
    """

    default_release: str
    images: Images
    sources: Mapping[str, str]
    arches: Mapping[str, Arch]
    oses: Mapping[str, Os]
    platforms: Mapping[str, Platform]
    layers: Mapping[str, Words]
    cann_python: Requirements
    pairs: tuple[Pair, ...]
    stand_in: Debian
    tools: Debian
    releases: Mapping[str, Release]
    common_requirements: Requirements
    common_os_packages: Mapping[str, Words]
    utilities: Utilities
    mooncake_source: Mapping[str, Mapping[str, Words]]
    debian_packages: Words
    cpu: Cpu

    def release(self, name: str | None) -> Release:
        return self._pick("--release", self.releases, name or self.default_release)

    def platform(self, name: str) -> Platform:
        return self._pick("--platform", {**self.platforms, CPU: self.cpu.platform}, name)

    def os(self, name: str) -> Os:
        return self._pick("--os", self.oses, name)

    def arch(self, name: str) -> Arch:
        return self._pick("--arch", self.arches, name)

    def cpu_vllm(self, version: str) -> CpuVllm:
        return self._pick("--vllm", self.cpu.vllm_versions, version)

    def variant(
        self, release: str | None, platform: str, os: str, vllm: str | None = None
    ) -> Variant:
        """Raises UserError (64) for a name or platform that the matrix or the release lacks."""
        if platform == CPU:
            chosen = self.release(release)
            found = self.cpu_vllm(vllm or chosen.vllm)
            return Variant(chosen, self.cpu.platform, self.cpu.os, found)
        variant = Variant(self.release(release), self.platform(platform), self.os(os))
        if platform not in variant.release.platforms:
            raise user_error(
                "--platform",
                f"release {variant.release.name} has no {platform} image",
                f"it has {', '.join(variant.release.platforms)}",
            )
        return variant

    def variants(self, release: str | None) -> Iterator[Variant]:
        """Every published image of a release: of platforms that run roles, platforms first."""
        chosen = self.release(release)
        for platform in (name for name in chosen.platforms if self.platforms[name].roles):
            for os in self.oses:
                yield self.variant(chosen.name, platform, os)

    def cpu_variants(self, release: str | None) -> Iterator[Variant]:
        """Every image of platform cpu for a release."""
        for version in self.cpu.vllm_versions:
            yield self.variant(release, CPU, self.cpu.os.name, version)

    def stand_in_release(self, release: Release) -> Release:
        """A release in a stand-in: Debian's Python, and the index's versions of vendor packages."""
        nearest: dict[str, Any] = {
            name.replace("-", "_"): vendor.nearest for name, vendor in release.vendor.items()
        }
        return dataclasses.replace(release, python=self.stand_in.python, vendor={}, **nearest)

    def stand_in_layers(self, release: Release) -> Words:
        """The Python layers whose packages differ in a stand-in."""
        if release.python != self.stand_in.python:
            return self.python_layers
        return tuple(
            layer for layer in self.python_layers if set(self.layers[layer]) & set(release.vendor)
        )

    @property
    def python_layers(self) -> Words:
        """The layers below those that the Dockerfile names."""
        return tuple(name for name in self.layers if name not in ("compiled", *TOP_LAYERS))

    def cann_image(self, variant: Variant) -> str:
        return f"{variant.release.cann_image or self.images.cann}:{variant.cann_tag}"

    @staticmethod
    def _pick(option: str, known: Mapping[str, T], name: str) -> T:
        if name not in known:
            raise user_error(option, f"'{name}' is not in the matrix", did_you_mean(name, known))
        return known[name]


def load(path: Path = PATH) -> Matrix:
    """Read and check the matrix and the releases beside it, oldest release first.

    Raises UserError (65) with every problem found.
    """
    reader = _MatrixReader(path.name)
    releases, problems = _releases(path.with_name(RELEASES.name))
    matrix: Matrix = reader.build("", document(path), Matrix, releases=releases)
    problems = [*reader.problems, *problems]
    if not problems:
        common = matrix.common_os_packages
        releases = {name: _with_common_packages(one, common) for name, one in releases.items()}
        matrix = dataclasses.replace(matrix, releases=releases)
        problems = _contradictions(matrix, path.name)
    if problems:
        raise UserError(problems, EX_DATAERR)
    return matrix


def _releases(folder: Path) -> tuple[dict[str, Release], list[Finding]]:
    """Read a folder of releases: name → release, and the findings about them."""
    releases, problems = dict[str, Release](), list[Finding]()
    for path in sorted(folder.glob("*.yaml"), key=_by_version):
        reader = _MatrixReader(f"{folder.name}/{path.name}")
        try:
            releases[path.stem] = reader.build("", document(path), Release, name=path.stem)
        except UserError as error:
            problems += error.findings
        problems += reader.problems
    return releases, problems


def _by_version(path: Path) -> tuple[bool, Any]:
    try:
        return False, Version(path.stem)
    except InvalidVersion:
        return True, path.stem


class _MatrixReader(Reader):
    allow_empty = True  # such as the tag suffix of the first platform


def _with_common_packages(release: Release, common: Mapping[str, Words]) -> Release:
    """Add the OS packages that every image has."""
    own = release.os_packages
    every = {
        packager: packages and tuple(dict.fromkeys((*packages, *common.get(packager, ()))))
        for packager, packages in own.items()
    }
    return dataclasses.replace(release, os_packages=every)


def _contradictions(matrix: Matrix, file: str) -> list[Finding]:
    """Report values that are well-formed and contradict each other."""
    checks = {file: _of_matrix(matrix)}
    for name, release in matrix.releases.items():
        checks[f"{RELEASES.name}/{name}.yaml"] = _of_release(matrix, release)
    return [
        Finding(f"{file}: {key}", what, fix)
        for file, found in checks.items()
        for key, what, fix in found
    ]


def _of_matrix(matrix: Matrix) -> Iterator[tuple[str, str, str]]:
    """(key, what is wrong, what to do)."""
    if (name := matrix.default_release) not in matrix.releases:
        fix = did_you_mean(name, matrix.releases)
        yield "default_release", f"'{name}' is not a release", fix
    for name, platform in matrix.platforms.items():
        if not re.fullmatch(r"ascend\w+", soc := platform.soc_version):
            what = f"'{soc}' is not a SOC_VERSION"
            yield f"platforms.{name}.soc_version", what, "such as ascend910_9391"
        if not platform.cann_tag:
            what = "is empty: there is no CANN base for this platform"
            yield f"platforms.{name}.cann_tag", what, ""
    for group, table in (("platforms", matrix.platforms), ("oses", matrix.oses)):
        suffixes = [item.tag_suffix for item in table.values()]
        for name, item in table.items():
            if suffixes.count(item.tag_suffix) > 1:
                what = f"'{item.tag_suffix}' is not unique: images would share a tag"
                yield f"{group}.{name}.tag_suffix", what, ""
    for name, os in matrix.oses.items():
        if os.packager not in PACKAGERS:
            what = f"'{os.packager}' is unknown"
            yield f"oses.{name}.packager", what, " or ".join(PACKAGERS)
    pairs = [(one, os) for one in matrix.platforms.values() for os in matrix.oses.values()]
    tags = [one.tag_suffix + os.tag_suffix for one, os in pairs]
    for (platform, os), tag in zip(pairs, tags, strict=True):
        if tags.count(tag) > 1 and platform.tag_suffix and not os.tag_suffix:
            what = f"two images would share the tag …{tag}"
            yield f"platforms.{platform.name}.tag_suffix", what, ""
    if not matrix.arches:
        yield "arches", "is empty", ""
    for key, mapping, names in (
        ("sources", matrix.sources, SOURCES),
        ("images.os", matrix.images.os, tuple(matrix.oses)),
    ):
        for name in mapping:
            if name not in names:
                yield f"{key}.{name}", "unknown key", did_you_mean(name, names)
        for name in names:
            if name not in mapping:
                yield f"{key}.{name}", "is missing", ""
    for part, known in (("build", PACKAGERS), ("run", (*matrix.oses, matrix.stand_in.suite))):
        for name in known:
            if not matrix.mooncake_source.get(part, {}).get(name):
                yield f"mooncake_source.{part}.{name}", "is missing", ""
    yield from _of_layers("layers", matrix.layers, TOP_LAYERS)
    yield from _of_layers("cpu.layers", matrix.cpu.layers, CPU_LAYERS)
    for name, vllm in matrix.cpu.vllm_versions.items():
        key = f"cpu.vllm_versions.{name}"
        for what, version in (("its name", name), ("torch", vllm.torch)):
            if not _is_version(version):
                yield key, f"{what} '{version}' is not a version", ""
        if vllm.torch_from not in TORCH_FROM:
            yield f"{key}.torch_from", f"is '{vllm.torch_from}'", " or ".join(TORCH_FROM)
        if vllm.python != (python := matrix.cpu.debian.python):
            yield f"{key}.python", f"is {vllm.python}, cpu.debian has {python}", ""


def _of_layers(
    key: str, layers: Mapping[str, Words], places: Words
) -> Iterator[tuple[str, str, str]]:
    empty = [name for name, packages in layers.items() if not packages]
    if len(empty) != 1:
        what = "exactly one layer must be empty, to take all other packages"
        yield key, f"{what}; {len(empty)} are", ""
    for name in places:
        if name not in layers:
            yield f"{key}.{name}", "is missing: the Dockerfile names it", ""
    named = [(name, package) for name, packages in layers.items() for package in packages]
    for name, package in named:
        if package != (normalized := canonicalize_name(package)):
            yield f"{key}.{name}", f"'{package}' is not a normalized name", normalized
    for package, count in sorted(Counter(package for _, package in named).items()):
        if count > 1:
            yield key, f"{package} is in two layers", ""


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _of_release(matrix: Matrix, release: Release) -> Iterator[tuple[str, str, str]]:
    """(key, what is wrong, what to do)."""
    if not release.cann:
        yield "cann", "is empty: there is no tag of a CANN base without it", ""
    if not release.platforms:
        yield "platforms", "is empty", ""
    for platform in release.platforms:
        if platform not in matrix.platforms:
            fix = did_you_mean(platform, matrix.platforms)
            yield "platforms", f"'{platform}' is not a platform", fix
    for name in ("vllm", "vllm_ascend", "torch", "torch_npu", "triton_ascend"):
        if not _is_version(getattr(release, name)):
            yield name, f"'{getattr(release, name)}' is not a version", ""
    packagers = {os.packager for os in matrix.oses.values()}
    for packager in release.os_packages:
        if packager not in packagers:
            fix = did_you_mean(packager, packagers)
            yield f"os_packages.{packager}", "unknown key", fix
    for os in matrix.oses.values():
        if not release.os_packages.get(os.packager):
            yield f"os_packages.{os.packager}", f"is missing, and {os.name} needs it", ""
    for package, vendor in release.vendor.items():
        key = f"vendor.{package}"
        if package not in VENDOR_PACKAGES:
            yield key, "cannot be a vendor's package", did_you_mean(package, VENDOR_PACKAGES)
        if not _is_version(vendor.nearest):
            yield f"{key}.nearest", f"'{vendor.nearest}' is not a version", ""
        if bool(vendor.index) == bool(vendor.urls):
            yield key, "must have either an index or urls", ""
        if vendor.urls and set(vendor.urls) != set(matrix.arches):
            yield f"{key}.urls", f"must have {', '.join(matrix.arches)}", ""
    mooncake = release.mooncake
    if mooncake.origin not in ("source", "wheel"):
        yield "mooncake.from", f"is {mooncake.origin!r}", "source or wheel"
    if not mooncake.version:
        yield "mooncake.version", "is missing", ""
    if mooncake.origin == "source" and not mooncake.yalantinglibs:
        what = "is missing: a Mooncake from source is compiled with it"
        yield "mooncake.yalantinglibs", what, ""
    partners = [p for p in matrix.pairs if p.torch_npu == release.torch_npu]
    if not partners:
        what = f"{release.torch_npu} has no entry in pairs"
        yield "torch_npu", what, "add it to pairs in matrix.yaml, with its torch and CANN"
    elif not any(p.torch == release.torch for p in partners):
        what = f"{release.torch_npu} does not fit torch {release.torch}"
        yield "torch_npu", what, f"it is compiled against torch {partners[0].torch}"
    elif not any(release.cann in p.cann for p in partners):
        what = f"torch_npu {release.torch_npu} does not run on CANN {release.cann}"
        yield "cann", what, f"it needs {' or '.join(partners[0].cann)}"
