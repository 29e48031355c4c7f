"""Finding CANN: an image that is there, one that is not, and installers held to their sums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands.build import build
from images.build import base
from images.build.base import FoundBase, Identity, check_installers, find_base, identify
from images.build.options import Options
from images.matrix import STAND_IN, Arch, Matrix, Variant
from images.mirrors import Mirrors

A3_FILES = (
    "Ascend-cann-toolkit_8.3.RC2_linux-aarch64.run",
    "Atlas-A3-cann-kernels_8.3.RC2_linux-aarch64.run",
    "Ascend-cann-nnal_8.3.RC2_linux-aarch64.run",
)
ARM64 = Arch("arm64", "aarch64")
Problems = Callable[..., list[str]]
Variants = Callable[..., Variant]


@pytest.fixture
def packages(tmp_path: Path) -> Callable[..., Path]:
    """A directory of installers that hold their names, with their sums."""

    def make(*names: str, sums: str | None = None) -> Path:
        directory = tmp_path / "packages"
        directory.mkdir()
        lines = []
        for name in names:
            (directory / name).write_text(name)
            lines.append(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n")
        (directory / "SHA256SUMS").write_text("".join(lines) if sums is None else sums)
        return directory

    return make


def on_any_machine(name: str) -> str:
    return name.replace("aarch64", "$(uname -m)")


def _silent(_: str) -> None:
    pass


# ---- installers ----------------------------------------------------------------------------------


def test_installers_with_the_right_sums(packages: Callable[..., Path], variant: Variants) -> None:
    said: list[str] = []
    found = check_installers(packages(*A3_FILES), variant("a3"), (ARM64,), said.append)
    names = [on_any_machine(name) for name in A3_FILES]
    assert found.names == dict(zip(("toolkit", "kernels", "nnal"), names, strict=True))
    assert said == [f"checking {name}" for name in A3_FILES]
    for name in A3_FILES:
        assert f"{name}@sha256:{hashlib.sha256(name.encode()).hexdigest()}" in found.identity


@pytest.mark.parametrize(
    ("platform", "kernels"),
    [
        ("a2", "Ascend-cann-kernels-910b_8.3.RC2_linux-aarch64.run"),
        ("a3", "Atlas-A3-cann-kernels_8.3.RC2_linux-aarch64.run"),
        ("a3", "Ascend-cann-A3-ops_8.5.1_linux-aarch64.run"),
        ("a3", "Atlas-A3-ops_9.0.0_linux-aarch64.run"),
        ("310p", "Ascend-cann-kernels-310p_8.3.RC2_linux-aarch64.run"),
        ("a2", "Ascend-cann-910b-ops_8.5.1_linux-aarch64.run"),
        ("310p", "Ascend-cann-310p-ops_8.5.1_linux-aarch64.run"),
    ],
)
def test_the_kernels_are_the_platforms_own(
    packages: Callable[..., Path], variant: Variants, platform: str, kernels: str
) -> None:
    """Whatever other platforms' kernels lie beside them."""
    others = {
        "Ascend-cann-kernels-910b_8.3.RC2_linux-aarch64.run": "a2",
        "Atlas-A3-cann-kernels_8.3.RC2_linux-aarch64.run": "a3",
        "Ascend-cann-kernels-310p_8.3.RC2_linux-aarch64.run": "310p",
    }
    beside = [name for name, owner in others.items() if owner != platform]
    directory = packages(A3_FILES[0], kernels, A3_FILES[2], *beside)
    found = check_installers(directory, variant(platform), (ARM64,), _silent)
    assert found.names["kernels"] == on_any_machine(kernels)


def test_a_wrong_sum(
    packages: Callable[..., Path], variant: Variants, problems_of: Problems
) -> None:
    directory = packages(*A3_FILES)
    (directory / A3_FILES[0]).write_text("tampered")
    (directory / A3_FILES[2]).unlink()
    wanted, found = (
        hashlib.sha256(text.encode()).hexdigest() for text in (A3_FILES[0], "tampered")
    )
    assert problems_of(
        lambda: check_installers(directory, variant("a3"), (ARM64,), _silent), 65
    ) == [
        f"{directory / A3_FILES[0]}: its sha256 is {found}, SHA256SUMS says {wanted} "
        "(fetch the installer again)",
        f"{directory / A3_FILES[2]}: is listed in SHA256SUMS and not there",
    ]


def test_no_sums(packages: Callable[..., Path], variant: Variants, problems_of: Problems) -> None:
    directory = packages(*A3_FILES)
    (directory / "SHA256SUMS").unlink()
    (problem,) = problems_of(
        lambda: check_installers(directory, variant("a3"), (ARM64,), _silent), 65
    )
    assert problem.startswith(f"{directory}/SHA256SUMS: is missing (in {directory}: sha256sum")


@pytest.mark.parametrize(
    "line",
    [
        "not a sum",
        "abc  Ascend-cann-toolkit.run",
        f"{64 * 'g'}  Ascend-cann-toolkit.run",
        f"{64 * 'a'}",
        f"{64 * 'a'} Ascend-cann-toolkit.run",
        f"{64 * 'a'}  two words.run",
    ],
)
def test_a_line_that_is_no_sum(
    packages: Callable[..., Path], variant: Variants, problems_of: Problems, line: str
) -> None:
    directory = packages(*A3_FILES, sums=f"{line}\n")
    (problem,) = problems_of(
        lambda: check_installers(directory, variant("a3"), (ARM64,), _silent), 65
    )
    assert f"SHA256SUMS: not a checksum: {line!r} (lines as sha256sum writes them)" in problem


def test_sums_as_either_mode_of_sha256sum_writes_them(
    packages: Callable[..., Path], variant: Variants
) -> None:
    directory = packages(*A3_FILES)
    sums = directory / "SHA256SUMS"
    sums.write_text("\n" + sums.read_text().replace("  ", " *") + "\n")
    assert len(check_installers(directory, variant("a3"), (ARM64,), _silent).names) == 3


def test_two_toolkits_and_no_nnal(
    packages: Callable[..., Path], variant: Variants, problems_of: Problems
) -> None:
    second = "Ascend-cann-toolkit_8.5.0_linux-aarch64.run"
    directory = packages(*A3_FILES[:2], second)
    assert problems_of(
        lambda: check_installers(directory, variant("a3"), (ARM64,), _silent), 65
    ) == [
        f"{directory}: toolkit for a3 on aarch64: 2 match: {A3_FILES[0]}, {second} "
        "(one .run whose name has /toolkit/)",
        f"{directory}: nnal for a3 on aarch64: no match (one .run whose name has /nnal/)",
    ]


def test_no_kernels_for_the_platform(
    packages: Callable[..., Path], variant: Variants, problems_of: Problems
) -> None:
    directory = packages(*A3_FILES)
    (problem,) = problems_of(
        lambda: check_installers(directory, variant("a2"), (ARM64,), _silent), 65
    )
    assert problem.startswith(f"{directory}: kernels for a2 on aarch64: no match")


def test_no_directory(tmp_path: Path, variant: Variants, problems_of: Problems) -> None:
    place = tmp_path / "none"
    (problem,) = problems_of(lambda: check_installers(place, variant("a3"), (ARM64,), _silent), 64)
    assert problem == f"--cann-packages: no such directory: {place}"


def test_installers_for_both_architectures(
    packages: Callable[..., Path], variant: Variants
) -> None:
    """The machine is left to the builder, and every file is held to its sum."""
    both = [name.replace("aarch64", m) for name in A3_FILES for m in ("aarch64", "x86_64")]
    said: list[str] = []
    amd64 = Arch("amd64", "x86_64")
    directory = packages(*both)
    found = check_installers(directory, variant("a3"), (ARM64, amd64), said.append)
    assert len(said) == 6
    assert all("linux-$(uname -m)" in name for name in found.names.values())
    only = check_installers(directory, variant("a3"), (amd64,), said.append)
    assert only.identity != found.identity


# ---- images --------------------------------------------------------------------------------------

REFERENCE = "registry.example.com/cann:8.3"
DIGEST = "sha256:" + 64 * "d"
NOT_LOCAL = f"Error response from daemon: No such image: {REFERENCE}\n"
NOT_THERE = (
    'ERROR: failed to do request: Head "https://registry.example.com/v2/cann/manifests/8.3": '
    "dial tcp: lookup registry.example.com:\n  no such host\n"
)
LOCAL = f"image inspect --format {{{{.Id}}}} {REFERENCE}"
REMOTE = f"buildx imagetools inspect --format {{{{json .Manifest}}}} {REFERENCE}"
MANIFEST = (
    '{"mediaType":"application/vnd.oci.image.index.v1+json","size":1609,'
    f'"digest":"{DIGEST}","manifests":[]}}\n'
)


def test_an_image_that_the_engine_has(docker: Any) -> None:
    docker.answers(LOCAL, out=f"{DIGEST}\n")
    assert identify(REFERENCE, None) == Identity(DIGEST)
    assert docker.calls() == [LOCAL]


def test_an_image_of_a_registry(docker: Any) -> None:
    docker.answers(LOCAL, err=NOT_LOCAL, code=1)
    docker.answers(REMOTE, out=MANIFEST)
    assert identify(REFERENCE, None) == Identity(DIGEST, f"{REFERENCE}@{DIGEST}")


def test_another_builder_takes_it_from_the_registry(docker: Any) -> None:
    docker.answers(REMOTE, out=MANIFEST)
    assert identify(REFERENCE, "remote").pinned == f"{REFERENCE}@{DIGEST}"
    assert docker.calls() == [REMOTE]


def test_a_digest_that_was_given_stands_once(docker: Any) -> None:
    docker.answers(f"* {REFERENCE}@{DIGEST}", out=MANIFEST)
    assert identify(f"{REFERENCE}@{DIGEST}", "remote").pinned == f"{REFERENCE}@{DIGEST}"


def test_an_image_that_nobody_has(docker: Any, problems_of: Problems) -> None:
    docker.answers(LOCAL, err=NOT_LOCAL, code=1)
    docker.answers(REMOTE, err=NOT_THERE, code=1)
    (problem,) = problems_of(lambda: identify(REFERENCE, None), 69)
    assert problem.startswith(f"{REFERENCE}: cannot be pulled: failed to do request: Head ")
    assert "lookup registry.example.com: no such host" in problem
    for way in ("--base IMAGE", "--registry-mirror", "--cann-packages DIR", "--base stand-in"):
        assert way in problem


@pytest.mark.parametrize(
    "words",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
        "Is the docker daemon running?\n",
        "permission denied while trying to connect to the Docker daemon socket at "
        "unix:///var/run/docker.sock\n",
    ],
)
def test_no_engine(docker: Any, problems_of: Problems, words: str) -> None:
    docker.answers(LOCAL, err=words, code=1)
    (problem,) = problems_of(lambda: identify(REFERENCE, None), 69)
    assert problem.startswith(f"docker: no engine answers: {words.strip()}")
    assert "./setup.sh installs and starts one" in problem


@pytest.mark.usefixtures("no_docker")
def test_no_docker_at_all(problems_of: Problems) -> None:
    assert problems_of(lambda: identify(REFERENCE, None), 69) == [
        "docker: is not installed (./setup.sh installs it)"
    ]


# ---- finding -------------------------------------------------------------------------------------


def _find(
    matrix: Matrix,
    variant: Variant,
    mirrors: Mirrors | None = None,
    image: str | None = None,
    packages: Path | None = None,
    share_cann: bool = False,
) -> FoundBase:
    options = Options((ARM64,), image, packages, share_cann, mirrors=mirrors or Mirrors())
    return find_base(matrix, variant, options, _silent)


PUBLISHED = "quay.io/ascend/cann:8.3.rc2-a3-ubuntu22.04-py3.11"


def test_the_published_image_is_the_default(docker: Any, matrix: Matrix, variant: Variants) -> None:
    docker.answers("image inspect *", err=NOT_LOCAL, code=1)
    docker.answers("buildx imagetools inspect *", out=MANIFEST)
    found = _find(matrix, variant("a3"))
    assert (found.base.kind, found.base.image) == ("image", PUBLISHED)
    assert found.identity == DIGEST
    assert (found.pinned, found.digest) == (f"{PUBLISHED}@{DIGEST}", DIGEST)
    assert found.base.os_image == "docker.io/library/ubuntu:22.04"
    assert all(call.endswith(f" {PUBLISHED}") for call in docker.calls())


def test_a_mirror_serves_the_published_image_and_the_os(
    docker: Any, matrix: Matrix, variant: Variants
) -> None:
    docker.answers(f"image inspect * mirror.example.com/{PUBLISHED}", out=DIGEST)
    found = _find(matrix, variant("a3"), Mirrors(registry_mirror="mirror.example.com"))
    assert found.base.image == f"mirror.example.com/{PUBLISHED}"
    assert found.base.os_image == "mirror.example.com/docker.io/library/ubuntu:22.04"


def test_an_image_that_was_given_is_taken_as_it_is(
    docker: Any, matrix: Matrix, variant: Variants
) -> None:
    docker.answers(LOCAL, out=DIGEST)
    found = _find(matrix, variant("a3"), Mirrors(registry_mirror="mirror.example.com"),
                  image=REFERENCE)  # fmt: skip
    assert found.base.image == REFERENCE


def test_a_stand_in_asks_nobody(docker: Any, matrix: Matrix, variant: Variants) -> None:
    found = _find(matrix, variant("a3"), image=STAND_IN)
    assert (found.base.kind, found.base.image, found.pinned, found.digest) == (STAND_IN, "", "", "")
    assert found.identity == "stand-in of CANN 8.3.rc2"
    assert docker.calls() == []


def test_installers_on_debian(
    docker: Any, matrix: Matrix, variant: Variants, packages: Callable[..., Path]
) -> None:
    found = _find(matrix, variant("a3"), packages=packages(*A3_FILES))
    assert found.base.debian
    assert found.base.installers["nnal"] == on_any_machine(A3_FILES[2])
    assert found.identity.endswith(" on debian")
    assert docker.calls() == []


def test_installers_on_an_image(
    docker: Any, matrix: Matrix, variant: Variants, packages: Callable[..., Path]
) -> None:
    docker.answers("image inspect *", err=NOT_LOCAL, code=1)
    docker.answers(REMOTE, out=MANIFEST)
    found = _find(matrix, variant("a3"), packages=packages(*A3_FILES), image=REFERENCE)
    assert (found.base.kind, found.base.image) == ("packages", REFERENCE)
    assert not found.base.debian
    assert found.identity.endswith(f" on {DIGEST}")
    assert (found.pinned, found.digest) == (f"{REFERENCE}@{DIGEST}", DIGEST)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"packages": Path("p")}, "--base stand-in: and --cann-packages exclude each other"),
        ({"share_cann": True}, "--share-cann: applies to a CANN image"),
    ],
)
def test_options_that_a_stand_in_excludes(
    matrix: Matrix,
    variant: Variants,
    problems_of: Problems,
    options: dict[str, Any],
    words: str,
) -> None:
    (problem,) = problems_of(lambda: _find(matrix, variant("a3"), image=STAND_IN, **options), 64)
    assert problem.startswith(words)


def test_the_other_ways_are_options_of_the_build() -> None:
    options = [name for one in build.get_arguments() for name in one.names]
    for option in ("base", "registry-mirror", "cann-packages"):
        assert f"--{option}" in base.OTHER_WAYS
        assert option in options
