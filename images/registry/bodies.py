"""The bodies of downloads from a registry and uploads to it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import requests
from urllib3.exceptions import HTTPError

from common.errors import UserError
from images.registry import limits
from images.registry.oci import Descriptor


class Retryable(Exception):
    """A failure that may pass: too many requests, a server error, a broken connection."""

    def __init__(self, words: str, pause: float = 0.0) -> None:
        self.pause = pause
        super().__init__(words)


class Stopped(Exception):
    """Another thread failed or the user interrupted; the work is no longer needed."""


class Download:
    """The body of an answer. If the connection is cut, `begin` requests the rest from an offset."""

    def __init__(
        self,
        begin: Callable[[int], requests.Response],
        retry: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._begin = begin
        self._retry = retry
        self._offset = 0
        self._response: requests.Response | None = None

    def _stream(self) -> requests.Response:
        if self._response is None:
            found = self._response = self._begin(self._offset)
            if self._offset and found.status_code != requests.codes.partial_content:
                skipped = self._offset  # the registry ignores Range
                while skipped and (piece := found.raw.read(min(skipped, limits.PIECE))):
                    skipped -= len(piece)
        return self._response

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(limits.PIECE), b""))
        piece: bytes = self._retry(lambda: self._attempt(size))
        self._offset += len(piece)
        return piece

    def _attempt(self, size: int) -> bytes:
        try:
            return bytes(self._stream().raw.read(size, decode_content=False))
        except HTTPError as error:
            self.close()
            raise Retryable(f"the connection was cut: {type(error).__name__}") from None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


class DigestReader:
    """A blob with its digest checked at the end. Raises what `damaged` returns if it is wrong."""

    def __init__(self, file: BinaryIO, digest: str, damaged: Callable[[str], UserError]) -> None:
        self._file = file
        self._digest = digest
        self._damaged = damaged
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._hash.update(piece)
        if size < 0 or not piece:
            found = f"sha256:{self._hash.hexdigest()}"
            if found != self._digest:
                raise self._damaged(found)
        return piece


class Upload(DigestReader):
    """The body of an upload, with a known length. `stop` ends it between two pieces."""

    def __init__(
        self,
        file: BinaryIO,
        blob: Descriptor,
        damaged: Callable[[str], UserError],
        stop: threading.Event,
    ) -> None:
        super().__init__(file, blob.digest, damaged)
        self._size = blob.size
        self._stop = stop

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(limits.PIECE), b"")

    def read(self, size: int = -1) -> bytes:
        if self._stop.is_set():
            raise Stopped
        return super().read(size)
