"""Root file systems from Debian packages, for a stand-in, or without a registry."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import EX_UNAVAILABLE, user_error
from common.terminal import Say
from images.matrix import Arch, Debian

EPOCH = "315532800"
UNUSED = ("doc", "info", "locale", "man")
MERGED_USR = (
    'mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib"; ln -s usr/bin usr/sbin usr/lib "$1/"'
)


def provide(
    debian: Debian, arch: Arch, name: str, directory: Path, say: Say, mirror: str = ""
) -> Path:
    """Return the root file system of `debian`, `{name}-{arch}.tar`; make it if it is missing.

    `mirror` replaces the host of Debian's archive.
    A foreign architecture is only unpacked: maintainer scripts would need an emulator, and nothing
    here depends on them. Raises UserError (69) with mmdebstrap's message.
    """
    target = directory / f"{name}-{arch.name}.tar"
    if not _is_made(target, debian, arch):
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):  # another build may be making it
            if not _is_made(target, debian, arch):
                _make(target, debian, arch, name, say, mirror)
    return target


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_made(target: Path, debian: Debian, arch: Arch) -> bool:
    stamp = target.with_suffix(".sha256")
    made_of = stamp.read_text() if target.is_file() and stamp.is_file() else ""
    return made_of == fingerprint(debian, arch)


def _make(target: Path, debian: Debian, arch: Arch, name: str, say: Say, mirror: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise user_error("mmdebstrap", "is not installed", "./setup.sh installs it", EX_UNAVAILABLE)
    say(
        f"{name} root file system for {arch.name}: "
        f"{len(debian.packages)} packages of Debian {debian.suite} and what they need"
    )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
        environment["TMPDIR"] = scratch
        answer = subprocess.run(
            [
                *(*_command(debian, arch), debian.suite, str(made)),
                *([f"{mirror}/debian"] if mirror else []),
            ],
            env=environment,
            capture_output=True,
            text=True,
        )
        if answer.returncode:
            reasons = [line for line in answer.stderr.splitlines() if line.startswith("E:")]
            words = "; ".join(reasons or answer.stderr.splitlines()[-3:])
            raise user_error(
                "mmdebstrap", words, "--apt-mirror names another mirror", EX_UNAVAILABLE
            )
        stamp = target.with_suffix(".sha256")
        stamp.unlink(missing_ok=True)
        made.rename(target)
        stamp.write_text(fingerprint(debian, arch))


def fingerprint(debian: Debian, arch: Arch) -> str:
    """Identifies a root file system by the command that makes it."""
    return hashlib.sha256("\0".join([*_command(debian, arch), debian.suite]).encode()).hexdigest()


def _command(debian: Debian, arch: Arch) -> list[str]:
    native = platform.machine() == arch.machine
    variant = (
        ["--variant=minbase"]
        if native
        else ["--variant=extract", "--include=?essential", f"--setup-hook={MERGED_USR}"]
    )
    unused = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNUSED]
    return [
        *("mmdebstrap", "--quiet", "--format=tar", f"--architectures={arch.name}"),
        *variant,
        f"--include={','.join(debian.packages)}",
        *unused,
    ]
