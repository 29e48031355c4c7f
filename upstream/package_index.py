"""Query the package index about a distribution: its versions, files and upload dates."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tomli
from packaging.version import InvalidVersion, Version

from common.errors import EX_UNAVAILABLE, user_error
from images.locking.index import DOWNLOADS, download
from images.locking.uv import uv

# Files of a release are uploaded within this time of the first; later ones do not count.
WINDOW = datetime.timedelta(days=2)
# Wheels for every Python and platform, not just this machine's.
UNIVERSAL = ("--universal", "--python-version", "3.10")


@dataclass(frozen=True)
class File:
    """`uploaded`: in UTC."""

    url: str
    sha256: str
    uploaded: datetime.datetime

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@cache
def files(package: str, version: str) -> tuple[File, ...]:
    """The files of a version. Raises UserError (69) if the index lacks it."""
    answer = uv(
        *("pip", "compile", "--quiet", "--no-deps", "--format=pylock.toml", "--no-header"),
        *(*UNIVERSAL, "--index-strategy", "unsafe-best-match", "-"),
        stdin=f"{package}=={version}",
    )
    (found,) = tomli.loads(answer)["packages"]
    every = [*([found["sdist"]] if "sdist" in found else []), *found.get("wheels", [])]
    return tuple(
        File(one["url"], one["hashes"]["sha256"], one["upload-time"])
        for one in every
        if "url" in one and "upload-time" in one
    )


def day_after(uploads: Iterable[File]) -> datetime.date | None:
    """The first day on which all of these files exist; None without files."""
    times = sorted(one.uploaded for one in uploads)
    if not times:
        return None
    last = max(time for time in times if time - times[0] <= WINDOW)
    return (last + datetime.timedelta(days=1)).date()


def wheel(package: str, version: str) -> Path:
    """Download one of its wheels to build/, unless it is there. Raises UserError (69)."""
    where = f"{package} {version}"
    target = DOWNLOADS / f"{package}-{version}.whl"
    if target.is_file():
        return target
    wheels = [one for one in files(package, version) if one.name.endswith(".whl")]
    if not wheels:
        raise user_error(where, "the index has no wheel of it", exit_code=EX_UNAVAILABLE)
    return download(where, wheels[0].url, wheels[0].sha256, target)


def versions(package: str) -> list[str]:
    """All versions, newest first; empty if the index does not answer. Uses pip: uv cannot list."""
    command = [sys.executable, "-m", "pip", "index", "versions", "--pre", package]
    answer = subprocess.run(command, capture_output=True, text=True)
    match = re.search(r"^Available versions: (.*)$", answer.stdout, re.MULTILINE)
    return match[1].split(", ") if match else []


def near(version: str, known: Iterable[str], count: int = 6) -> list[str]:
    """The versions around a missing one, in order."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        return list(known)[:count]
    ordered = sorted(map(Version, known))
    below = [one for one in ordered if one < wanted][-count // 2 :]
    above = [one for one in ordered if one > wanted][: count // 2]
    return [str(one) for one in (*below, *above)]


def newest(known: Iterable[str]) -> str:
    """The newest final version. Raises UserError (69) without one."""
    final = [one for one in map(Version, known) if not one.is_prerelease]
    if not final:
        raise user_error("the package index", "lists no release", "give a version", EX_UNAVAILABLE)
    return str(max(final))
