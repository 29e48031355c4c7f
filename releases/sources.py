"""The sources of a release, as the package index has them: vllm-ascend's and its vLLM's."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from common.errors import EX_DATAERR, fail
from images.flags import source_distribution

# The files that are read as text.
TEXT = re.compile(r".*(\.(py|md|rst|toml|txt|ya?ml|sh|in|cfg|json)|/?Dockerfile[^/]*)")
LARGEST = 2_000_000  # bytes of a file that is read


@dataclass(frozen=True)
class Tree:
    """The files of one distribution. `files`: path below its root -> text."""

    package: str
    version: str
    files: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.package} v{self.version}"

    def text(self, path: str) -> str:
        """Raises UserError (65) when there is no such file."""
        try:
            return self.files[path]
        except KeyError:
            raise fail(str(self), f"has no {path}", exit_code=EX_DATAERR) from None

    def cite(self, path: str, line: int | None = None) -> str:
        """`vllm-ascend v0.18.0: Dockerfile.a3:18`."""
        return f"{self}: {path}" + (f":{line}" if line else "")

    def matching(self, pattern: str) -> Iterator[str]:
        """The paths that match as a whole, in order."""
        return (path for path in sorted(self.files) if re.fullmatch(pattern, path))

    def find(self, path: str, pattern: str) -> Iterator[tuple[re.Match[str], str]]:
        """Every match in a file, with its citation; `^` and `$` are those of lines."""
        text = self.files.get(path, "")
        for match in re.finditer(pattern, text, re.MULTILINE):
            yield match, self.cite(path, text.count("\n", 0, match.start()) + 1)


@cache
def tree(package: str, version: str) -> Tree:
    """A source distribution's files. Raises UserError (69) when the index has none."""
    return Tree(package, version, dict(_members(source_distribution(package, version))))


def _members(archive: Path) -> Iterator[tuple[str, str]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if TEXT.fullmatch(info.filename) and info.file_size <= LARGEST:
                    yield info.filename, wheel.read(info).decode("utf-8", "replace")
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if member.isfile() and TEXT.fullmatch(path) and member.size <= LARGEST:
                file = tar.extractfile(member)
                assert file is not None  # isfile()
                yield path, file.read().decode("utf-8", "replace")
