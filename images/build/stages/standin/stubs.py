"""Find the libraries that the image lacks, and decide which get a stub and what it exports."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from .elf import ElfFile, Reference


class Vendor(Enum):
    """Who provides a library, which determines the directory of its stub."""

    TOOLKIT = "toolkit"
    ATB = "atb"
    DRIVER = "driver"
    NVIDIA = "nvidia"


@dataclass(frozen=True)
class Stub:
    """A library to generate."""

    soname: str
    vendor: Vendor
    symbols: tuple[Reference, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The stubs, and what stays unresolved because the base has to provide it."""

    stubs: tuple[Stub, ...]
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sonames without a stub, and the files that need them."""
    unmet_versions: tuple[str, ...] = ()
    """Symbol versions that an existing library does not define."""
    unresolved: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Files, and their symbols that neither a library nor a stub defines."""


# The host provides the driver: a stub beside the toolkit's libraries would hide its absence.
_VENDORS = (
    (Vendor.DRIVER, re.compile(r"lib(ascend_hal|dcmi|drvdsmi_host|devmmap)\.so")),
    (Vendor.ATB, re.compile(r"lib(atb\w*|asdops|asdsip|lcal|mki|tbe_adapter)\.so")),
    (Vendor.TOOLKIT, re.compile(r"lib(acl|aoe_|ascend|c_sec|ge_|graph|hccl|hcom|fmk_)\w*\.so")),
    (
        Vendor.TOOLKIT,
        re.compile(
            r"lib(error_manager|exe_graph|ms_tools_ext|msprof\w*|mspti|nnopbase|opapi\w*|platform"
            r"|profapi|register|runtime|tiling_api|unified_dlog)\.so"
        ),
    ),
    (
        Vendor.NVIDIA,
        re.compile(
            r"lib(cuda|cudart|cublas|cublasLt|cudnn\w*|cufftw?|cufile\w*|cupti|curand"
            r"|cusolver\w*|cusparse\w*|nccl|nv[a-zA-Z_-]+)\.so(\.\d+)*"
        ),
    ),
)
_ASCEND_PACKAGES = frozenset({"torch_npu", "vllm_ascend"})

# Each belongs to a plug-in whose owner does without: torio's FFmpeg bindings (one set for every
# FFmpeg), torchaudio's SoX effects, numba's TBB threads. A stub would make the owner choose it.
_OPTIONAL = re.compile(r"lib(av[a-z]+|sw[a-z]+|postproc|sox|tbb)\.so(\.\d+)*")
_PACKAGES: Mapping[str, str] = {"libcurl.so.4": "libcurl4", "libmlx5.so.1": "ibverbs-providers"}

# What torch_npu opens by name at run time and a CANN image has. Not libcust_opapi.so (operators
# of the user's own) nor libascend_kernel_hook.so (a profiler's).
_OPENED = re.compile(
    rb"lib(?:aclnn_[a-z_]+|aoe_tuning|asdsip|ms_tools_ext|mspti|opapi(?:_[a-z]+)?)\.so(?=\0)"
)

# Prefixes of symbols of libraries whose names do not show it. The longest match wins.
_BEGINNINGS: Mapping[str, tuple[str, ...]] = {
    "libacl_op_compiler.so": ("aclop", "aclGenGraph", "aclSetCompileopt", "aclGetCompileopt"),
    "libacl_tdt_channel.so": ("acltdt",),
    "libascend_protobuf.so": ("_ZN6google", "_ZNK6google", "_ZTIN6google", "_ZTVN6google"),
    "libascendcl.so": ("acl",),
    "libopapi.so": ("aclnn",),
    "libatb.so": ("_ZN3atb", "_ZNK3atb"),
    "libfmk_parser.so": ("_ZN2ge12aclgrphParse",),
    "libge_runner.so": ("_ZN2ge7Session", "_ZN2ge12GEInitialize", "_ZN2ge10GEFinalize"),
    "libgraph.so": ("_ZN2ge", "_ZNK2ge", "_ZTIN2ge", "_ZTVN2ge"),
    "libhccl.so": ("Hccl",),
    "libcuda.so.1": ("cu",),
    "libcudart.so.12": ("cuda", "__cuda"),
}


def vendor(soname: str, needed_by: Iterable[str] = ()) -> Vendor | None:
    """The vendor of a library; None when it is neither Ascend nor NVIDIA."""
    for owner, pattern in _VENDORS:
        if pattern.fullmatch(soname):
            return owner
    if any(_package(path) in _ASCEND_PACKAGES for path in needed_by):
        return Vendor.TOOLKIT
    return None


def remedy(soname: str) -> str | None:
    """How to add a library without a stub to the base; None when nothing needs it."""
    if _OPTIONAL.fullmatch(soname):
        return None
    package = _PACKAGES.get(soname)
    return f"install {package} in the base" if package else "install its package in the base"


def opened_by_name(content: bytes) -> set[str]:
    """The CANN libraries that a file of torch_npu names as strings."""
    return {match.decode() for match in _OPENED.findall(content)}


def plan_stubs(
    layers: Sequence[ElfFile], base: Sequence[ElfFile], opened: Iterable[str] = ()
) -> Plan:
    """Decide which stubs the files of the layers need on top of a base."""
    providers: dict[str, list[ElfFile]] = defaultdict(list)
    for file in base:
        for name in {file.soname, _file_name(file)}:
            providers[name].append(file)
    for file in layers:
        # By file name, as the loader searches: wheels bundle a libcudart.1a2b3c.so.12 of their
        # own, whose SONAME is the one that others look for in vain.
        providers[_file_name(file)].append(file)
    needed_by: dict[str, list[str]] = defaultdict(list)
    for file in layers:
        for soname in file.needed:
            if soname not in providers:
                needed_by[soname].append(file.path)
    vendors = {soname: vendor(soname, paths) for soname, paths in needed_by.items()}
    stubbed = {soname: owner for soname, owner in vendors.items() if owner is not None}
    for soname in opened:
        if soname not in providers:
            stubbed.setdefault(soname, vendor(soname) or Vendor.TOOLKIT)

    symbols, unresolved = _assign(layers, base, providers, stubbed, set(vendors) - set(stubbed))
    versions = _wanted_versions(layers, stubbed)
    return Plan(
        stubs=tuple(
            Stub(name, owner, tuple(sorted(symbols[name])), tuple(sorted(versions[name])))
            for name, owner in sorted(stubbed.items())
        ),
        missing={
            name: tuple(paths) for name, paths in sorted(needed_by.items()) if name not in stubbed
        },
        unmet_versions=_unmet_versions(layers, providers),
        unresolved=unresolved,
    )


def _assign(
    layers: Sequence[ElfFile],
    base: Sequence[ElfFile],
    providers: Mapping[str, Sequence[ElfFile]],
    stubbed: Mapping[str, Vendor],
    absent: set[str],
) -> tuple[dict[str, set[Reference]], dict[str, tuple[str, ...]]]:
    real = frozenset().union(*(file.defined for file in (*layers, *base)))
    symbols: dict[str, set[Reference]] = defaultdict(set)
    unresolved: dict[str, list[str]] = defaultdict(list)
    for file in layers:
        reachable = _reachable(file, providers)
        candidates = sorted(reachable & stubbed.keys())
        for reference in file.references:
            if reference.soname in stubbed:
                symbols[reference.soname].add(reference)
            elif reference.name in real or reference.soname in providers:
                continue
            elif home := _home(reference.name, candidates, sorted(stubbed)):
                symbols[home].add(Reference(reference.name, reference.kind))
            elif not reachable & absent:
                unresolved[file.path].append(reference.name)
    for soname, references in symbols.items():
        symbols[soname] = _one_each(references)
    return symbols, {path: tuple(names) for path, names in sorted(unresolved.items())}


def _one_each(references: set[Reference]) -> set[Reference]:
    """Prefer references with a version, and those known to be data."""
    chosen: dict[tuple[str, str], Reference] = {}
    versioned = {reference.name for reference in references if reference.version}
    for reference in sorted(references, key=lambda one: (one.kind == "function", one)):
        if reference.version or reference.name not in versioned:
            chosen.setdefault((reference.name, reference.version), reference)
    return set(chosen.values())


def _reachable(file: ElfFile, providers: Mapping[str, Sequence[ElfFile]]) -> set[str]:
    """The sonames that loading a file loads."""
    reached: set[str] = set()
    waiting = list(file.needed)
    while waiting:
        soname = waiting.pop()
        if soname not in reached:
            reached.add(soname)
            waiting.extend(name for one in providers.get(soname, ()) for name in one.needed)
    return reached


def _home(symbol: str, candidates: Sequence[str], others: Sequence[str]) -> str | None:
    """The library that most likely defines a symbol.

    One that the file loads; any other only if its name fits, for files that rely on libraries
    loaded before them.
    """

    def fit(soname: str) -> int:
        stem = soname.removeprefix("lib").split(".so")[0]
        beginnings = _BEGINNINGS.get(soname, (stem,))
        return max((len(text) for text in beginnings if symbol.startswith(text)), default=0)

    if candidates:
        return max(candidates, key=fit)
    best = max(others, key=fit, default="")
    return best if best and fit(best) else None


def _wanted_versions(
    layers: Sequence[ElfFile], stubbed: Mapping[str, Vendor]
) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = defaultdict(set)
    for file in layers:
        for soname, version in file.wanted_versions:
            if soname in stubbed:
                versions[soname].add(version)
    return versions


def _unmet_versions(
    layers: Sequence[ElfFile], providers: Mapping[str, Sequence[ElfFile]]
) -> tuple[str, ...]:
    unmet: set[str] = set()
    for file in layers:
        for soname, version in file.wanted_versions:
            offers = [one.defined_versions for one in providers.get(soname, ()) if one.defined]
            if offers and not any(version in offer for offer in offers):
                unmet.add(f"{version} of {soname} for {file.path}")
    return tuple(sorted(unmet))


def _file_name(file: ElfFile) -> str:
    return file.path.rpartition("/")[2]


def _package(path: str) -> str:
    return path.partition("site-packages/")[2].partition("/")[0]
