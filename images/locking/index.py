"""The package index: where to find wheels, and downloads that are checked against hashes."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import EX_UNAVAILABLE, user_error
from common.files import write_atomically
from common.paths import WORK
from images.locking.uv import uv

DOWNLOADS = WORK / "flags"


@dataclass(frozen=True)
class Wheels:
    """Where to find a torch without CUDA besides the package index; both may be empty."""

    find_links: tuple[str, ...] = ()
    torch_index: str = ""

    @classmethod
    def of(
        cls, environ: Mapping[str, str], find_links: str | None = None, index: str | None = None
    ) -> Wheels:
        """Read options, else the variables of uv and pip."""
        links = find_links or environ.get("UV_FIND_LINKS") or environ.get("PIP_FIND_LINKS", "")
        return cls(
            tuple(re.split(r"[,\s]+", links.strip())) if links.strip() else (),
            index or environ.get("TORCH_CPU_INDEX", ""),
        )

    def options(self) -> list[str]:
        """Arguments of uv. PyTorch's index states no upload times, so torch may be of any day."""
        found = [f"--find-links={link}" for link in self.find_links]
        if self.torch_index:
            found += ["--index", self.torch_index, "--index-strategy", "unsafe-best-match"]
            found += ["--exclude-newer-package=torch=false"]
        return found


def source_distribution(package: str, version: str) -> Path:
    """Download a source distribution from the index and check its hash.

    Raises UserError (69) when the index has none or does not answer.
    """
    archive = DOWNLOADS / f"{package}-{version}.tar.gz"
    if archive.is_file():
        return archive
    # Of all of uv's answers only this one has an address; the package is not built for it.
    answer = uv(
        *("pip", "compile", "--quiet", "--no-deps", "--format=pylock.toml", "--no-header", "-"),
        stdin=f"{package}=={version}",
    )
    match = re.search(r'^sdist = \{.*?url = "([^"]+)".*?sha256 = "([0-9a-f]{64})"', answer, re.M)
    where = f"{package} {version}"
    if not match:
        raise user_error(
            where, "the index has no source distribution of it", exit_code=EX_UNAVAILABLE
        )
    return download(where, match[1], match[2], archive)


def download(where: str, address: str, sha256: str, target: Path) -> Path:
    """Download a file of the index and check its hash. Raises UserError (69), with `where`."""
    try:
        with urllib.request.urlopen(address, timeout=300) as response:
            data = response.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise user_error(
            where, f"cannot be downloaded: {error}", exit_code=EX_UNAVAILABLE
        ) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise user_error(where, "has another hash than the index states", exit_code=EX_UNAVAILABLE)
    return write_atomically(target, data, parents=True)
