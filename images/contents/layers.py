"""The files of an image, by layer and as a container sees them.

Layers are streamed; nothing is unpacked to disk. A layer that does not match its digest, or exceeds
the limits of images/registry/limits.yaml, is refused.

    contents = read(store, store.manifest("v0.13.0rc1"), keep=packages.wanted)
    contents.files["etc/passwd"], contents.kept["etc/os-release"]
"""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, Protocol, cast

import zstandard
from urllib3.exceptions import HTTPError

from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError, user_error
from images.registry import limits
from images.registry.oci import Descriptor, Manifest
from images.registry.transfer import collect_all

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
PIECE = 1 << 20
BUFFER = 1 << 16  # tarfile copies what is left of it at each read
AT_ONCE = 2
WINDOW = 1 << 27  # bytes that zstd looks back, at most
ENTRY, LINE = 450, 200  # bytes that an entry, and a line of a kept file, take in memory

Visit = Callable[["File", bytes | None], None]
Keep = Callable[[str], bool]


class Blobs(Protocol):
    """A source of images: a repository in a registry, an OCI layout."""

    def manifest(self, reference: str) -> Manifest | None: ...

    def open_blob(self, digest: str) -> AbstractContextManager[BinaryIO]: ...


@dataclass(frozen=True, slots=True)
class File:
    """One entry of a layer. `path` has no leading slash; `sha256` is empty without content."""

    path: str
    kind: str  # file, directory, link, hardlink, other
    size: int
    mode: int
    layer: str
    target: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer; `kept` has the contents of the files that `keep` chose."""

    digest: str
    diff_id: str
    size: int
    unpacked: int
    files: Mapping[str, File]
    kept: Mapping[str, bytes]
    removed: frozenset[str]
    emptied: frozenset[str]


@dataclass(frozen=True)
class Contents:
    """The layers of an image, and the files that a container sees."""

    layers: tuple[Layer, ...]
    files: Mapping[str, File]
    kept: Mapping[str, bytes]


def read(
    blobs: Blobs,
    manifest: Manifest,
    *,
    keep: Keep,
    visit: Visit | None = None,
    small: int = PIECE,
) -> Contents:
    """Read all layers of the image of one architecture.

    `visit` gets every file of every layer, with the content of those up to `small` bytes.
    Raises UserError: 65 with every layer that is damaged or too large, 69 if the registry fails.
    """
    descriptors = [Descriptor.of(raw) for raw in manifest.document.get("layers") or []]
    action = partial(layer, blobs, keep=keep, visit=visit, small=small, memory=Memory())
    return merged(layers(descriptors, action))


def layers(descriptors: Sequence[Descriptor], action: Callable[[Descriptor], Layer]) -> list[Layer]:
    """Read each layer once with `action`, some in parallel.

    Raises UserError as `read`.
    """
    found = collect_all(dict.fromkeys(descriptors), action, threading.Event(), AT_ONCE)
    by_digest = {one.digest: one for one in found}
    return [by_digest[one.digest] for one in descriptors]


class Memory:
    """An estimate of the memory that the files of an image take."""

    def __init__(self) -> None:
        self._left = limits.of_layers("memory")
        self._lock = threading.Lock()

    def take(self, descriptor: Descriptor, file: File, kept: bytes) -> None:
        """Raises UserError (65) if the limit is exceeded."""
        size = ENTRY + len(file.path) + len(file.target) + len(kept) + LINE * kept.count(b"\n")
        with self._lock:
            self._left -= size
        if self._left < 0:
            limit = limits.of_layers("memory")
            raise _damaged(descriptor, f"needs more than {limit:,} bytes of memory at {file.path}")


def layer(
    blobs: Blobs,
    descriptor: Descriptor,
    *,
    keep: Keep,
    visit: Visit | None = None,
    small: int = PIECE,
    memory: Memory | None = None,
) -> Layer:
    """Read one layer. Raises UserError (65) if it is damaged, has another digest or is too large.

    The layers of an image share `memory`.
    """
    memory = memory or Memory()
    files: dict[str, File] = {}
    kept: dict[str, bytes] = {}
    removed, emptied = set(), set()
    try:
        with blobs.open_blob(descriptor.digest) as blob:
            packed = _Hashed(blob)
            with _unpacked(packed) as stream:
                plain = _Plain(stream, descriptor)
                with tarfile.open(fileobj=cast(BinaryIO, plain), mode="r|", bufsize=BUFFER) as tar:
                    for member in iter(tar.next, None):
                        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all
                        path = _path(member.name)
                        if member.isfile() and keep(path):
                            _check_size(descriptor, path, member.size)
                        plain.expect(member.size, path)
                        directory, name = posixpath.split(path)
                        if name == OPAQUE:
                            emptied.add(directory)
                        elif name.startswith(WHITEOUT):
                            removed.add(posixpath.join(directory, name.removeprefix(WHITEOUT)))
                        elif name:
                            file, content = _entry(tar, member, descriptor.digest, keep, small)
                            if file.kind == "hardlink" and file.target in files:
                                same = files[file.target]
                                file = replace(file, size=same.size, sha256=same.sha256)
                            files[file.path] = file
                            if content is not None and keep(file.path):
                                kept[file.path] = content
                            memory.take(descriptor, file, kept.get(file.path, b""))
                            if visit:
                                within = content is not None and file.size <= small
                                visit(file, content if within else None)
                plain.drain()
            packed.drain()
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, OSError, EOFError) as error:
        raise _damaged(descriptor, f"is not a layer: {error}") from None
    except HTTPError as error:  # urllib3's: the registry's answer was cut
        words = f"the connection was cut: {error}"
        raise user_error(f"layer {descriptor.digest[:19]}", words, "", EX_UNAVAILABLE) from None
    if packed.digest != descriptor.digest:
        raise _damaged(descriptor, f"the content has another digest, {packed.digest}")
    return Layer(
        *(descriptor.digest, plain.digest, descriptor.size, plain.size),
        *(files, kept, frozenset(removed), frozenset(emptied)),
    )


def _damaged(descriptor: Descriptor, what: str) -> UserError:
    return user_error(f"layer {descriptor.digest[:19]}", what, exit_code=EX_DATAERR)


def _check_size(layer: Descriptor, path: str, size: int) -> None:
    if size > (limit := limits.of_file(path)):
        what = f"{path} has {size:,} bytes, the limit for such a file is {limit:,}"
        raise _damaged(layer, what)


def _path(name: str) -> str:
    path = posixpath.normpath(name).lstrip("/")
    return "" if path == "." else path


def _entry(
    tar: tarfile.TarFile, member: tarfile.TarInfo, layer: str, keep: Keep, small: int
) -> tuple[File, bytes | None]:
    """An entry, with its content if that is small or to be kept."""
    path = _path(member.name)
    kinds = (
        (member.isfile(), "file"),
        (member.isdir(), "directory"),
        (member.issym(), "link"),
        (member.islnk(), "hardlink"),
    )
    kind = next((name for fits, name in kinds if fits), "other")
    target = _path(member.linkname) if kind == "hardlink" else member.linkname
    if kind != "file":
        return File(path, kind, 0, member.mode, layer, target), None
    source = tar.extractfile(member)
    assert source is not None
    digest = hashlib.sha256()
    if member.size <= small or keep(path):
        content = source.read()
        digest.update(content)
    else:
        content = None
        while piece := source.read(PIECE):
            digest.update(piece)
    return File(path, kind, member.size, member.mode, layer, "", digest.hexdigest()), content


class _Hashed:
    """Counts and hashes what is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self._hash.update(piece)
        self.size += len(piece)
        return piece

    def drain(self) -> None:
        while self.read(PIECE):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _Plain(_Hashed):
    """The tar of a layer. Refuses to read past the limits of a header and of the layer."""

    def __init__(self, source: BinaryIO, layer: Descriptor) -> None:
        super().__init__(source)
        self._layer = layer
        self._header = limits.of_layers("header")
        self._header_end = self._header
        self._end = limits.unpacked(layer.size)

    def expect(self, size: int, path: str) -> None:
        """Allow an entry of `size` bytes, and the header of the next one."""
        self._header_end = self.size + size + self._header
        if self.size + size > self._end:
            raise _damaged(self._layer, f"unpacks to more than {self._end:,} bytes with {path}")

    def read(self, size: int = -1) -> bytes:
        piece = super().read(size)
        if self.size > self._header_end:
            what = f"the header of an entry has more than {self._header:,} bytes"
            raise _damaged(self._layer, what)
        if self.size > self._end:
            raise _damaged(self._layer, f"unpacks to more than {self._end:,} bytes")
        return piece

    def drain(self) -> None:
        """Read what follows the last entry."""
        self._header_end = self._end
        super().drain()


class _Rewound:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, source: _Hashed) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._source.read(size)
        size = len(self._head) if size < 0 else size
        piece, self._head = self._head[:size], self._head[size:]
        return piece


@contextmanager
def _unpacked(packed: _Hashed) -> Iterator[BinaryIO]:
    """Decompress by magic number: the media type may be wrong."""
    head = packed.read(4)
    stream = cast(BinaryIO, _Rewound(head, packed))
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=stream) as plain:
            yield cast(BinaryIO, plain)
    elif head == b"\x28\xb5\x2f\xfd":
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        with decompressor.stream_reader(stream, read_across_frames=True) as plain:
            yield cast(BinaryIO, plain)
    else:
        yield stream


def merged(layers: Sequence[Layer]) -> Contents:
    """The files that a container sees: each layer over those before it, whiteouts applied."""
    files: dict[str, File] = {}
    kept: dict[str, bytes] = {}
    for one in layers:
        over = {path for path, file in one.files.items() if file.kind != "directory"}
        gone = one.removed | over
        if gone or one.emptied:
            files = {
                path: file
                for path, file in files.items()
                if not (path in one.removed or _under(path, gone, one.emptied))
            }
        files.update(one.files)
        kept.update(one.kept)
    visible = {p: content for p, content in kept.items() if p in files and files[p].kind == "file"}
    return Contents(tuple(layers), files, visible)


def _under(path: str, gone: set[str] | frozenset[str], emptied: frozenset[str]) -> bool:
    above = posixpath.dirname(path)
    while above:
        if above in gone or above in emptied:
            return True
        above = posixpath.dirname(above)
    return "" in emptied
