"""The compatibility page: the pins, platforms, systems, tags and locks of every release."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.version import Version

from docs.render.markdown import Page, page
from images.locking import slices
from images.matrix import CpuVllm, Matrix, Release

# Packages without a pin that readers look for.
PACKAGES = ("transformers", "ray", "numpy")


@dataclass(frozen=True)
class Row:
    """A release. `packages`: locked versions, or the requirements if there is no lock.

    `vendor`: packages that a build has to get from the vendor because the lock lacks them.
    """

    release: Release
    default: bool
    packages: dict[str, str]
    platforms: tuple[str, ...]
    locked: tuple[str, ...]
    vendor: tuple[str, ...]
    tags: tuple[str, ...]


def rows(matrix: Matrix) -> list[Row]:
    """Every release, oldest first."""
    return [
        Row(
            release=one,
            default=one.name == matrix.default_release,
            packages={name: _package(matrix, one, name) for name in PACKAGES},
            platforms=tuple(
                dict.fromkeys(variant.platform.name for variant in matrix.variants(one.name))
            ),
            locked=tuple(arch for arch in matrix.arches if _locked(matrix, one, arch)),
            vendor=() if slices.complete(one, matrix.arches) else tuple(one.vendor),
            tags=tuple(variant.tag for variant in matrix.variants(one.name)),
        )
        for one in in_order(matrix)
    ]


def in_order(matrix: Matrix) -> list[Release]:
    """The releases, oldest first."""
    return sorted(matrix.releases.values(), key=lambda one: Version(one.vllm_ascend))


def render(matrix: Matrix) -> Page:
    versions = matrix.cpu.vllm_versions.values()
    return page(
        "compatibility.md",
        "compatibility.md.j2",
        rows=rows(matrix),
        matrix=matrix,
        vllm_versions=[(one, vllm_locked(matrix, one)) for one in versions],
    )


def vllm_locked(matrix: Matrix, vllm: CpuVllm) -> tuple[str, ...]:
    """The architectures for which a vLLM on the CPU has a lock."""
    return tuple(arch for arch in matrix.arches if (slices.LOCKS / vllm.lock / arch).is_dir())


def _locked(matrix: Matrix, release: Release, arch: str) -> bool:
    return all(slices.slice_path(release, arch, layer).is_file() for layer in matrix.layers)


def _package(matrix: Matrix, release: Release, name: str) -> str:
    layer = slices.layer_of(matrix.layers, name)
    for arch in matrix.arches:
        path = slices.slice_path(release, arch, layer)
        if path.is_file():
            found = slices.parse(path.read_text(encoding="utf-8"))
            return next((one.version for one in found if one.name == name), "")
    needs = map(Requirement, (*release.requirements, *matrix.common_requirements))
    return next((str(one.specifier) for one in needs if one.name == name), "")
