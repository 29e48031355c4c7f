"""Find the base of an image, where CANN comes from, and identify its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common import docker
from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError, user_error
from common.terminal import Say
from images.build.options import Options
from images.build.render import DEBIAN, Base, stand_in_environment
from images.matrix import STAND_IN, Arch, Matrix, Variant

SUMS = "SHA256SUMS"
OTHER_WAYS = (
    "other ways: --base IMAGE (a copy you can pull), --registry-mirror HOST, "
    "--cann-packages DIR (CANN's .run installers), or --base stand-in (no CANN: for tests)"
)


@dataclass(frozen=True)
class FoundBase:
    """A base and the identity of its content: a digest, or the checksums of its parts."""

    base: Base
    identity: str
    pinned: str = ""  # the reference with its digest, for an image of a registry
    digest: str = ""  # of an image


def find_base(matrix: Matrix, variant: Variant, options: Options, say: Say) -> FoundBase:
    """Find the base that the options name; a bundle takes the place of engine and registry.

    Raises UserError: 64 for options that exclude each other, 65 for a wrong checksum, 69 for an
    image that cannot be found.
    """
    image, packages, mirrors = options.base, options.cann_packages, options.mirrors
    if variant.cpu_vllm:
        if packages or options.share_cann or image == STAND_IN:
            raise user_error(
                "--platform cpu", "has no CANN", "--base IMAGE or --base debian, nothing else"
            )
        return _find_debian(matrix, options, say)
    os_image = mirrors.image(matrix.images.os[variant.os.name])
    if image == STAND_IN:
        if packages:
            raise user_error(
                "--base stand-in", "and --cann-packages exclude each other", "choose one"
            )
        if options.share_cann:
            fix = "leave it out: layers of a stand-in are shared anyway"
            raise user_error("--share-cann", "applies to a CANN image", fix)
        stand_in_environment(matrix, variant)  # rejects a release without one
        identity = f"{STAND_IN} of CANN {variant.release.cann}"
        return FoundBase(Base(STAND_IN, os_image=os_image), identity)
    if packages:
        installers = check_installers(packages, variant, options.arches, say)
        base = Base("packages", image=image or "", installers=installers.names, os_image=os_image)
        found = identify(image, options.builder, options.bundled) if image else Identity("")
        identity = f"{installers.identity} on {found.identity or 'debian'}"
        return FoundBase(base, identity, found.pinned, found.identity)
    reference = image or mirrors.image(matrix.cann_image(variant))
    return _published(reference, options, os_image)


def _find_debian(matrix: Matrix, options: Options, say: Say) -> FoundBase:
    """The distribution of platform cpu: an image, or without a registry its packages."""
    packages = FoundBase(Base(DEBIAN), f"packages of Debian {matrix.cpu.debian.suite}")
    image, bundled = options.base, options.bundled
    reference = image or options.mirrors.image(matrix.cpu.image)
    if image == DEBIAN or (bundled is not None and reference not in bundled):
        return packages
    try:
        return _published(reference, options)
    except UserError as error:
        if image or error.exit_code != EX_UNAVAILABLE:
            raise
        say(f"{reference} cannot be pulled: using Debian packages instead")
        return packages


def _published(reference: str, options: Options, os_image: str = "") -> FoundBase:
    found = identify(reference, options.builder, options.bundled)
    base = Base("image", image=reference, os_image=os_image)
    return FoundBase(base, found.identity, found.pinned, found.identity)


# ---- images --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    identity: str
    pinned: str = ""


def identify(
    reference: str, builder: str | None, bundled: Mapping[str, str] | None = None
) -> Identity:
    """The digest of an image in the engine, else in its registry. Raises UserError (69)."""
    if bundled is not None:
        if reference not in bundled:
            raise user_error(reference, "is not in the bundle", "fetch it with --base", EX_DATAERR)
        return Identity(bundled[reference])
    if builder is None and (local := docker.image_id(reference)):
        return Identity(local)
    remote = docker.run(
        "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", reference
    )
    if remote.returncode:
        words = " ".join(remote.stderr.split()).removeprefix("ERROR: ")
        raise user_error(reference, f"cannot be pulled: {words}", OTHER_WAYS, EX_UNAVAILABLE)
    digest = json.loads(remote.stdout)["digest"]
    return Identity(digest, f"{reference.split('@')[0]}@{digest}")


# ---- CANN's installers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Installers:
    names: dict[str, str]
    identity: str


def check_installers(
    directory: Path, variant: Variant, arches: Iterable[Arch], say: Say
) -> Installers:
    """Find the installers in a directory and check each against SHA256SUMS.

    Their names are Huawei's: `…toolkit…`, `…kernels…` or `…ops…` for the platform, `…nnal…`, with
    `linux-{machine}` in a directory for several machines. The names returned have `$(uname -m)` in
    its place. Raises UserError (64, 65).
    """
    if not directory.is_dir():
        raise user_error("--cann-packages", f"no such directory: {directory}")
    sums = _read_sums(directory)
    tag = variant.platform.cann_tag
    patterns = {
        "toolkit": r"toolkit",
        "kernels": rf"(kernels|ops)-{tag}|({tag}|{variant.platform.name})[-\w]*(kernels|ops)",
        "nnal": r"nnal",
    }
    problems, names, files = [], {}, []
    for part, pattern in patterns.items():
        for arch in arches:
            matching = [name for name in sorted(sums) if _matches(name, pattern, arch)]
            if len(matching) == 1:
                files += matching
                names[part] = matching[0].replace(f"linux-{arch.machine}", "linux-$(uname -m)")
                continue
            found = f"{len(matching)} match: {', '.join(matching)}" if matching else "no match"
            problems.append(
                Finding(
                    f"{directory}: {part} for {variant.platform.name} on {arch.machine}",
                    found,
                    f"one .run whose name has /{pattern}/",
                )
            )
    for name in files:
        say(f"checking {name}")
        problems += _check_sum(directory / name, sums[name])
    if problems:
        raise UserError(problems, EX_DATAERR)
    return Installers(names, " ".join(f"{name}@sha256:{sums[name]}" for name in files))


def _matches(name: str, pattern: str, arch: Arch) -> bool:
    machine = re.search(r"linux[-_](aarch64|x86_64)", name)
    if machine and machine[1] != arch.machine:
        return False
    return name.endswith(".run") and re.search(pattern, name, re.IGNORECASE) is not None


def _read_sums(directory: Path) -> dict[str, str]:
    """File name → sha256, from SHA256SUMS. Raises UserError (65)."""
    path = directory / SUMS
    try:
        lines = path.read_text().splitlines()
        return dict(_parse_sum(line) for line in lines if line.strip())
    except FileNotFoundError:
        fix = f"in {directory}: sha256sum *.run > {SUMS}, from a copy you trust"
        raise user_error(str(path), "is missing", fix, EX_DATAERR) from None
    except (ValueError, OSError) as error:
        raise user_error(
            str(path), str(error), "lines as sha256sum writes them", EX_DATAERR
        ) from None


def _parse_sum(line: str) -> tuple[str, str]:
    match = re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line.strip())
    if not match:
        raise ValueError(f"not a checksum: {line!r}")
    return match[2], match[1]


def _check_sum(path: Path, wanted: str) -> list[Finding]:
    if not path.is_file():
        return [Finding(str(path), f"is listed in {SUMS} and not there")]
    with path.open("rb") as file:
        found = hashlib.sha256()
        while chunk := file.read(1 << 20):
            found.update(chunk)
    if found.hexdigest() == wanted:
        return []
    return [
        Finding(
            str(path),
            f"its sha256 is {found.hexdigest()}, {SUMS} says {wanted}",
            "fetch the installer again",
        )
    ]
