"""Limits on what is read of documents and images made by others: limits.yaml."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from common.errors import EX_DATAERR, UserError, user_error

PATH = Path(__file__).with_suffix(".yaml")
PIECE = 1 << 16


@cache
def table() -> dict[str, Any]:
    """The content of limits.yaml."""
    return dict(yaml.safe_load(PATH.read_text(encoding="utf-8")))


def of_document(kind: str) -> int:
    return int(table()["documents"][kind]["bytes"])


@cache
def of_file(path: str) -> int:
    """The most that is kept of a file in a layer."""
    return next(
        int(rule["bytes"])
        for rule in table()["files"]
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in rule["paths"])
    )


def of_layers(kind: str) -> int:
    rule = table()["layers"][kind]
    return int(rule.get("bytes") or rule["count"])


def unpacked(size: int) -> int:
    """The most that a layer of `size` compressed bytes may unpack to."""
    rule = table()["layers"]["unpacked"]
    return max(int(rule["least"]), size * int(rule["times"]))


def read(file: BinaryIO, kind: str, where: str) -> bytes:
    """Read a document. Raises UserError (65) if it exceeds the limit of its kind."""
    return joined(iter(lambda: file.read(PIECE), b""), kind, where)


def joined(pieces: Iterable[bytes], kind: str, where: str) -> bytes:
    """A document in pieces. Raises UserError as `read`."""
    limit, kept, size = of_document(kind), [], 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large(where, kind, limit)
    return b"".join(kept)


class Together:
    """Documents of one kind that share its limit, such as an image's attestations."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._size = 0

    def read(self, file: BinaryIO, where: str) -> bytes:
        """Read a document. Raises UserError (65)."""
        content = read(file, self._kind, where)
        self._size += len(content)
        if self._size > of_document(self._kind):
            raise too_large(where, self._kind, of_document(self._kind))
        return content


def with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def too_large(where: str, kind: str, limit: int) -> UserError:
    what = f"has more than {limit:,} bytes, the limit for {with_article(kind)}"
    return user_error(where, what, "images/registry/limits.yaml says why", EX_DATAERR)
