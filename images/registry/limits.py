"""How much is read of what somebody else wrote: limits.yaml, by kind of document and file."""

from __future__ import annotations

import fnmatch
import json
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
    """limits.yaml as it is."""
    return dict(yaml.safe_load(PATH.read_text(encoding="utf-8")))


def of_document(kind: str) -> int:
    return int(table()["documents"][kind]["bytes"])


@cache
def of_file(path: str) -> int:
    """The most that is kept of an image's file, by its path in the layer."""
    return next(
        int(rule["bytes"])
        for rule in table()["files"]
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in rule["paths"])
    )


def of_layers(kind: str) -> int:
    return int(table()["layers"][kind]["bytes"])


def unpacked(size: int) -> int:
    """The most that a layer of `size` compressed bytes may unpack to."""
    rule = table()["layers"]["unpacked"]
    return max(int(rule["least"]), size * int(rule["times"]))


def read(file: BinaryIO, kind: str, where: str) -> bytes:
    """All of a document. Raises UserError (65) when it is larger than its kind may be."""
    return joined(iter(lambda: file.read(PIECE), b""), kind, where)


def joined(pieces: Iterable[bytes], kind: str, where: str) -> bytes:
    """A document of the kind that comes in pieces. Raises UserError as `read`."""
    limit, kept, size = of_document(kind), [], 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large(where, kind, limit)
    return b"".join(kept)


def parse(content: bytes | str) -> Any:
    """JSON. Raises ValueError, also for what is nested too deeply to be read."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Together:
    """Documents of a kind that one image has: all of them within the limit of one."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._size = 0

    def read(self, file: BinaryIO, where: str) -> bytes:
        """All of one. Raises UserError (65)."""
        content = read(file, self._kind, where)
        self._size += len(content)
        if self._size > of_document(self._kind):
            raise too_large(where, self._kind, of_document(self._kind))
        return content


def too_large(where: str, kind: str, limit: int) -> UserError:
    article = "an" if kind.startswith("index") else "a"
    what = f"has more than {limit:,} bytes, the limit for {article} {kind}"
    return user_error(where, what, "images/registry/limits.yaml says why", EX_DATAERR)
