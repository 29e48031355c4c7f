"""What the package index has of a distribution: its files, their days, its versions."""

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

# Files of a release come within this time of its first; what comes later is another story.
TOGETHER = datetime.timedelta(days=2)
# Wheels of every Python and platform, and not only this machine's.
EVERYWHERE = ("--universal", "--python-version", "3.10")


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
    """Every file of a version. Raises UserError (69) when the index has none of it."""
    answer = uv(
        *("pip", "compile", "--quiet", "--no-deps", "--format=pylock.toml", "--no-header"),
        *(*EVERYWHERE, "--index-strategy", "unsafe-best-match", "-"),
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
    """The day as of which all of these are there, None when there are none."""
    times = sorted(one.uploaded for one in uploads)
    if not times:
        return None
    last = max(time for time in times if time - times[0] <= TOGETHER)
    return (last + datetime.timedelta(days=1)).date()


def wheel(package: str, version: str) -> Path:
    """One of its wheels, kept in build/. Raises UserError (69)."""
    where = f"{package} {version}"
    kept = DOWNLOADS / f"{package}-{version}.whl"
    if kept.is_file():
        return kept
    wheels = [one for one in files(package, version) if one.name.endswith(".whl")]
    if not wheels:
        raise user_error(where, "the index has no wheel of it", exit_code=EX_UNAVAILABLE)
    return download(where, wheels[0].url, wheels[0].sha256, kept)


def versions(package: str) -> list[str]:
    """Newest first; empty when the index does not answer. uv has no command for it; pip has."""
    command = [sys.executable, "-m", "pip", "index", "versions", "--pre", package]
    answer = subprocess.run(command, capture_output=True, text=True)
    match = re.search(r"^Available versions: (.*)$", answer.stdout, re.MULTILINE)
    return match[1].split(", ") if match else []


def near(version: str, known: Iterable[str], count: int = 6) -> list[str]:
    """The versions beside one that is not there, in their order."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        return list(known)[:count]
    ordered = sorted(map(Version, known))
    below = [one for one in ordered if one < wanted][-count // 2 :]
    above = [one for one in ordered if one > wanted][: count // 2]
    return [str(one) for one in (*below, *above)]


def newest(known: Iterable[str]) -> str:
    """The newest that is no candidate. Raises UserError (69) when there is none."""
    final = [one for one in map(Version, known) if not one.is_prerelease]
    if not final:
        raise user_error("the package index", "names no release", "name one", EX_UNAVAILABLE)
    return str(max(final))
