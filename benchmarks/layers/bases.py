"""Push bases shaped like a CANN image to the registry: one for each platform, and a new one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.layers.docker import BenchmarkError, docker
from benchmarks.layers.ours import PROJECT
from common.paths import WORK
from common.terminal import Say
from images.build import rootfs
from images.build.base import FoundBase
from images.build.options import Options, native_arch
from images.build.render import Base
from images.build.targets import BuildTarget
from images.matrix import STAND_IN, Arch, Matrix
from images.mirrors import Mirrors

PIP = "pip==24.0"  # what CPython 3.11.13, the CANN image's own, brings
DOCKERFILE = f"""\
FROM shape AS common
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \\
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \\
    python3 -m venv /tmp/v && \\
    sh /stages/mirrors.sh /tmp/v/bin/python -m pip --python /usr/bin/python3 \\
        install -q --break-system-packages --no-cache-dir {PIP} && \\
    rm -rf /tmp/v
FROM common AS each
ARG NAME
RUN mkdir -p /usr/local/Ascend/kernels && echo "$NAME" > /usr/local/Ascend/kernels/NAME
"""


def provide_roots(matrix: Matrix, arch: Arch, say: Say) -> None:
    """Make the Debian root file systems as `invoke build` does; this is not timed."""
    roots = WORK / "roots"
    mirror = Mirrors.of(os.environ).apt_mirror
    rootfs.provide(matrix.stand_in, arch, "base", roots, say, mirror)
    rootfs.provide(matrix.tools, native_arch(matrix), "tools", roots, say, mirror)


def make(
    matrix: Matrix,
    arch: Arch,
    release: str,
    names: list[str],
    registry: str,
    secrets: list[str],
    directory: Path,
) -> dict[str, str]:
    """Push a base for each name; they differ in one file. Returns name → reference."""
    directory.mkdir(parents=True, exist_ok=True)
    variant = matrix.variant(release, "a3", next(iter(matrix.oses)))
    base = Base(STAND_IN, os_image="")
    options = Options(arches=(arch,), base=STAND_IN)
    target = BuildTarget(matrix, variant, FoundBase(base, STAND_IN), "shape", None, options)
    shape = directory / "shape.Dockerfile"
    shape.write_text(target.dockerfile.text)
    contexts = {name: str(place) for name, place in target.contexts.items()}
    tag = f"{registry}/bench/shape"
    common = ["--platform", arch.oci_platform, "--provenance=false", "--push"]
    common += [word for secret in secrets for word in ("--secret", secret)]
    where = contexts.pop("")
    given = [w for name, place in contexts.items() for w in ("--build-context", f"{name}={place}")]
    _build(["--file", str(shape), "--target", "cann", "--tag", tag, *common, *given, where])
    file = directory / "bases.Dockerfile"
    file.write_text(DOCKERFILE)
    stages = ["--build-context", f"shape=docker-image://{tag}"]
    stages += ["--build-context", f"stages={PROJECT / 'images' / 'build' / 'stages'}"]
    references = {}
    for name in names:
        references[name] = reference = f"{registry}/bench/cann:{name}"
        given = ["--build-arg", f"NAME={name}", "--tag", reference]
        _build(["--file", str(file), "--target", "each", *given, *common, *stages, str(directory)])
    return references


def pull(references: dict[str, str], arch: Arch) -> None:
    """Pull and unpack every base, so that no build's time includes it."""
    for reference in references.values():
        docker("pull", "--quiet", "--platform", arch.oci_platform, reference)


def _build(arguments: list[str]) -> None:
    answer = subprocess.run(
        ["docker", "buildx", "build", "--progress=plain", *arguments],
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        tail = "\n".join(answer.stderr.splitlines()[-15:])
        raise BenchmarkError(f"making a base failed:\n{tail}")
