"""Upload blobs in parallel, and check that a registry has everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, TypeVar, cast

from common.errors import EX_DATAERR, EX_SOFTWARE, Finding, UserError, merged
from common.terminal import Say
from common.text import megabytes
from images.registry.bodies import Stopped
from images.registry.client import Repository, Source
from images.registry.oci import Descriptor, Layout, Manifest
from images.registry.transport import CONNECTIONS

T = TypeVar("T")
R = TypeVar("R")


def run_all(
    items: Iterable[T], action: Callable[[T], R], stop: threading.Event, workers: int = CONNECTIONS
) -> list[R]:
    """Apply `action` to all items in parallel. The first failure, or Ctrl-C, stops the rest.

    Raises UserError with every finding.
    """
    items = list(items)
    if not items:
        return []
    with ThreadPoolExecutor(min(workers, len(items))) as pool:
        futures = [pool.submit(action, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() and not future.exception() for future in futures):
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
    errors = [error for one in futures if not one.cancelled() and (error := one.exception())]
    users = [error for error in errors if isinstance(error, UserError)]
    for error in errors:
        if not isinstance(error, UserError | Stopped):
            raise error
    if users:
        raise merged(users)
    if errors:
        raise KeyboardInterrupt
    return [future.result() for future in futures]


def collect_all(
    items: Iterable[T], action: Callable[[T], R], stop: threading.Event, workers: int = CONNECTIONS
) -> list[R]:
    """As `run_all`, but wrong data (65) of one item does not hide that of another."""

    def attempt(item: T) -> R | UserError:
        try:
            return action(item)
        except UserError as error:
            if error.exit_code != EX_DATAERR:
                raise
            return error

    found = run_all(items, attempt, stop, workers)
    errors = [one for one in found if isinstance(one, UserError)]
    if errors:
        raise merged(errors)
    return [one for one in found if not isinstance(one, UserError)]


class BlobUploads:
    """The blobs that a repository must have, each once; those that it lacks are uploaded."""

    def __init__(self, repository: Repository, say: Say) -> None:
        self.repository = repository
        self.say = say
        self._sources: dict[str, tuple[Descriptor, Source]] = {}

    def add(self, blob: Descriptor, source: Source) -> None:
        self._sources.setdefault(blob.digest, (blob, source))

    def push(self, mount_from: str = "") -> int:
        """Upload what is missing, the largest first. Returns the number of bytes."""
        repository = self.repository
        wanted = list(self._sources.values())
        sizes = run_all(wanted, lambda one: repository.blob_size(one[0].digest), repository.stop)
        missing = [one for one, size in zip(wanted, sizes, strict=True) if size is None]
        missing.sort(key=lambda one: (-one[0].size, one[0].digest))
        meter = _UploadProgress(len(missing), sum(blob.size for blob, _ in missing), self.say)

        def upload(one: tuple[Descriptor, Source]) -> None:
            blob, source = one
            repository.push_blob(blob, meter.watch(blob, source), mount_from)
            meter.done(blob)

        run_all(missing, upload, repository.stop)
        return meter.total


def push_image(layout: Layout, digest: str, repository: Repository, tag: str, say: Say) -> None:
    """Copy an image of a layout: missing blobs, then manifests, then the tag.

    Raises UserError: 65 if the layout is incomplete, 69 if the registry refuses.
    """
    *children, root = layout.family(digest)
    blobs = BlobUploads(repository, say)
    for manifest in (*children, root):
        for blob in manifest.blobs:
            blobs.add(blob, partial(layout.open, blob.digest))
    blobs.push()
    for manifest in children:
        repository.push_manifest(manifest.digest, manifest)
    repository.push_manifest(tag, root)


class _UploadProgress:
    """Reports each uploaded blob, and every ten seconds the progress of large ones."""

    def __init__(self, blobs: int, total: int, say: Say) -> None:
        self.total = total
        self._blobs = blobs
        self._say = say
        self._finished = 0
        self._sent: dict[str, int] = {}
        self._lock = threading.Lock()
        self._last = time.monotonic()

    def watch(self, blob: Descriptor, source: Source) -> Source:
        @contextmanager
        def opened() -> Iterator[BinaryIO]:
            self._sent[blob.digest] = 0
            with source() as file:
                counted = _CountingReader(file, partial(self._read, blob.digest))
                yield cast(BinaryIO, counted)

        return opened

    def _read(self, digest: str, size: int) -> None:
        with self._lock:
            self._sent[digest] += size
            if time.monotonic() - self._last > 10:
                self._last = time.monotonic()
                self._say(f"sent {self._share()}")

    def done(self, blob: Descriptor) -> None:
        with self._lock:
            self._finished += 1
            self._sent[blob.digest] = blob.size
            self._last = time.monotonic()
            count = f"{self._finished} of {self._blobs}"
            self._say(
                f"pushed {blob.digest[:19]}  {megabytes(blob.size)}  ({count}, {self._share()})"
            )

    def _share(self) -> str:
        return f"{megabytes(sum(self._sent.values()))} of {megabytes(self.total)}"


class _CountingReader:
    def __init__(self, file: BinaryIO, count: Callable[[int], None]) -> None:
        self._file = file
        self._count = count

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._count(len(piece))
        return piece


def require_complete(repository: Repository, digests: Iterable[str]) -> dict[str, Manifest]:
    """Look up every manifest, configuration and blob of these images.

    Returns all manifests by digest. Raises UserError (70) with everything that is missing or has
    another size.
    """
    found: dict[str, Manifest] = {}
    problems: list[Finding] = []
    waiting = list(dict.fromkeys(digests))
    while waiting:
        manifests = run_all(waiting, repository.manifest, repository.stop)
        following: list[str] = []
        for digest, manifest in zip(waiting, manifests, strict=True):
            if manifest is None:
                problems.append(_missing(repository, digest, "the manifest is missing"))
            else:
                found[digest] = manifest
                following += [child.digest for child in manifest.children]
        waiting = [digest for digest in dict.fromkeys(following) if digest not in found]
    blobs = {blob.digest: blob for one in found.values() for blob in one.blobs}
    sizes = run_all(blobs, repository.blob_size, repository.stop)
    for blob, size in zip(blobs.values(), sizes, strict=True):
        if size is None:
            problems.append(_missing(repository, blob.digest, "the blob is missing"))
        elif size not in (blob.size, -1):
            what = f"the blob has {size} bytes, not {blob.size}"
            problems.append(_missing(repository, blob.digest, what))
    if problems:
        raise UserError(problems, EX_SOFTWARE)
    return found


def _missing(repository: Repository, digest: str, what: str) -> Finding:
    return Finding(
        f"{repository.name}@{digest}", what, "no tag was moved; run the same command again"
    )
