"""Whether the locks agree with the matrix, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from common.errors import Finding
from images.locking.lock import inputs, requirements, tool_slices
from images.locking.slices import (
    COMPLETES,
    EXCLUDED,
    LOCKS,
    RECORD,
    VENDOR,
    Pinned,
    layer_of,
    read_all,
    read_slice,
    vllm_source,
)
from images.matrix import STAND_IN, Matrix, Release


def check(matrix: Matrix, release: Release, locks: Path = LOCKS) -> list[Finding]:
    """Compare the lock of a release with the matrix, without a network."""
    remedy = f"invoke lock --release {release.name}"
    record = locks / release.name / RECORD
    if not record.is_file():
        return [Finding(f"locks/{release.name}", "this release has no lock", remedy)]
    problems = check_record(record, inputs(matrix, release), f"locks/{release.name}", remedy)
    for arch in matrix.arches:
        slices, unreadable = read_all(matrix, release, arch, locks)
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
