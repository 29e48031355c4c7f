"""--share-cann: the toolkit and nnal of two platforms' CANN images become the same layers."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.paths import WORK
from images.build import build as builds
from images.build import targets
from images.build.bake import bake
from images.build.options import Options
from images.build.progress import Progress
from images.matrix import Matrix, load
from images.mirrors import Mirrors
from tests.e2e.conftest import NATIVE, Image, building, docker, remove

pytestmark = pytest.mark.usefixtures("cold_build")

HERE = "test.invalid/share-cann"
OS_IMAGE = f"{HERE}/docker.io/library/ubuntu:22.04"  # as a registry mirror would name it


def bake_one(matrix: Matrix, platform: str, options: Options, stage: str, tag: str) -> None:
    variants = [matrix.variant(None, platform, "ubuntu22.04")]
    (target,) = targets.resolve(matrix, variants, options, print)
    common = builds.common_target(target, target.dockerfile.text, f"share-cann-{platform}")
    arch = options.arches[0]
    wanted = {
        "target": stage,
        "platforms": [arch.oci_platform],
        "tags": [tag],
        "output": ["type=image,unpack=true"],
    }
    with building():
        bake({f"{stage}-{platform}": {**common, **wanted}}, WORK / "bake-test", Progress())


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    real = load()
    release = dataclasses.replace(real.release(None), os_packages={"apt": ("net-tools",)})
    run = {**real.mooncake_source["run"], "ubuntu22.04": ("libnuma1",)}
    return dataclasses.replace(
        real,
        releases={**real.releases, release.name: release},
        mooncake_source={**real.mooncake_source, "run": run},
    )


@pytest.fixture(scope="module")
def cann_images(matrix: Matrix, a3: Image) -> Iterator[dict[str, str]]:
    """Two CANN images that share a toolkit and differ in their kernels, and an OS image."""
    stand_in = Options(
        arches=(matrix.arch(NATIVE),), base="stand-in", mirrors=Mirrors.of(os.environ)
    )
    tags = {platform: f"{HERE}/cann:{platform}" for platform in ("a2", "a3")}
    for platform, tag in tags.items():
        bake_one(matrix, platform, stand_in, "cann", tag)
    docker("import", str(WORK / "roots" / f"base-{NATIVE}.tar"), OS_IMAGE)
    yield tags
    remove(*tags.values(), OS_IMAGE)


def layers(tag: str) -> list[str]:
    answer = docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", tag).stdout
    return list(json.loads(answer))


def test_only_the_kernels_differ(
    matrix: Matrix, cann_images: dict[str, str], tmp_path: Path
) -> None:
    bases = {platform: f"{HERE}/base:{platform}" for platform in cann_images}
    for platform, tag in bases.items():
        shared = Options(
            arches=(matrix.arch(NATIVE),),
            base=cann_images[platform],
            share_cann=True,
            tools="debian",
            mirrors=Mirrors.of(os.environ, registry_mirror=HERE),
        )
        bake_one(matrix, platform, shared, "base", tag)
    a2, a3 = (layers(tag) for tag in bases.values())
    system, python, toolkit, nnal, kernels = range(5)
    assert [a2[part] for part in (system, python, toolkit, nnal)] == a3[:kernels]
    assert a2[kernels] != a3[kernels]
    names = {}
    for platform, tag in bases.items():
        find = (
            "cd /usr/local/Ascend && find . -type f -o -type l | sort && ls -d /usr/local/python*"
        )
        names[platform] = docker("run", "--rm", "--entrypoint=sh", tag, "-c", find).stdout
        original = docker("run", "--rm", "--entrypoint=sh", cann_images[platform], "-c", find)
        assert names[platform] == original.stdout
    assert "kernel/ascend910b1/" in names["a2"]
    assert "kernel/ascend910_9391/" in names["a3"]
    remove(*bases.values())
