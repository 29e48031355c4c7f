"""Contents of upstream's images that have no pin: variables, base, indexes, snapshots."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from upstream import shell
from upstream.dockerfile import Dockerfile, Variable, dockerfiles
from upstream.sources import Tree

# Variables that only matter while an image is built: builds here set them, or do not need them.
OF_A_BUILD = (
    "DEBIAN_FRONTEND",
    "SOC_VERSION",
    "COMPILE_CUSTOM_KERNELS",
    "VLLM_TARGET_DEVICE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "LD_LIBRARY_PATH",
    "PATH",
    "MAX_JOBS",
    "CARGO_BUILD_JOBS",
    "PROTOC_INCLUDE",
    "BUILD_TYPE",
)
# name-1.2.0+local-cp312-…, or name-2.10.0*_aarch64 of an unpacked archive
WHEEL = re.compile(r"(?P<name>[A-Za-z]\w*)-(?P<version>\d[\w.+*]*?)(?:[-_].*)?\.whl")


@dataclass(frozen=True)
class Cited:
    """A value, and the first file and line that has it."""

    value: str
    source: str


Values = Mapping[str, Cited]
Claims = Mapping[str, tuple[Cited, ...]]


@dataclass(frozen=True)
class Snapshot:
    """A package that a script installs over the pins. `address`: what it downloads."""

    package: str
    version: str
    address: str
    source: str
    run_by: str


def environment(tree: Tree) -> Claims:
    """The variables that ENV sets in any Dockerfile, for the running image."""
    return _claims(tree, lambda one: one.environment)


def build_environment(tree: Tree) -> Claims:
    """The variables that any Dockerfile sets for a command of its build."""
    return _claims(tree, lambda one: one.build_variables)


def taken(tree: Tree, claims: Claims) -> Values:
    """The first claim of each variable that at least half of the Dockerfiles set."""
    files = dockerfiles(tree)
    return {name: given[0] for name, given in claims.items() if 2 * len(given) >= len(files)}


def bases(tree: Tree) -> Values:
    """The base images without their tags, as names."""
    found: dict[str, Cited] = {}
    for one in dockerfiles(tree):
        if one.base:
            image, line = one.base
            name = image.partition("@")[0]
            name = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
            found.setdefault(name, Cited("", one.cite(line)))
    return found


def indexes(tree: Tree) -> Values:
    """The package indexes that pip asks, as names; those of the scripts that run, too."""
    found: dict[str, Cited] = {}
    for one in dockerfiles(tree):
        for address, line in shell.indexes(one.commands):
            found.setdefault(address.rstrip("/"), Cited("", one.cite(line)))
        for script in one.scripts:
            for address, line in shell.indexes(script.commands):
                found.setdefault(address.rstrip("/"), Cited("", tree.cite(script.path, line)))
    return found


def requirements(tree: Tree) -> Values:
    """requirements.txt: package → its specifier, `any` without one."""
    found: dict[str, Cited] = {}
    for match, source in tree.find("requirements.txt", r"^[A-Za-z][^#\n]*"):
        try:
            one = Requirement(match[0].strip())
        except InvalidRequirement:  # a URL or an option
            continue
        found[str(canonicalize_name(one.name))] = Cited(str(one.specifier) or "any", source)
    return found


def snapshots(tree: Tree) -> tuple[Snapshot, ...]:
    """The packages that scripts of the release install in its images, in order."""
    found: dict[tuple[str, str], Snapshot] = {}
    for one in dockerfiles(tree):
        for script in one.scripts:
            addresses = [address for address, _ in shell.downloads(script.commands)]
            for text, line in shell.required(script.commands):
                match = WHEEL.search(unquote(text).rpartition("/")[2])
                if match is None:
                    continue
                name = str(canonicalize_name(match["name"]))
                origin = text if "://" in text else _archive(match["name"], addresses)
                source = tree.cite(script.path, line)
                found.setdefault(
                    (name, match["version"]),
                    Snapshot(name, match["version"], origin, source, one.cite(script.line)),
                )
    return tuple(found.values())


def _archive(name: str, addresses: Iterable[str]) -> str:
    """The download that a local wheel is unpacked from: the one with the package's name."""
    short = name.partition("_")[0].lower()
    named = [one for one in addresses if short in one.lower()]
    return next(iter(named), "")


def _claims(tree: Tree, variables: Callable[[Dockerfile], Iterable[Variable]]) -> Claims:
    """Variable → its value in each Dockerfile that sets it; the last one of a file counts."""
    found: dict[str, dict[str, Cited]] = {}
    for file in dockerfiles(tree):
        for one in variables(file):
            if one.name not in OF_A_BUILD and "$" not in one.value:  # else computed while it builds
                cited = Cited(one.value, file.cite(one.line))
                found.setdefault(one.name, {})[file.path] = cited
    return {name: tuple(files.values()) for name, files in found.items()}
