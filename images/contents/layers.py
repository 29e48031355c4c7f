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

from common.errors import EX_DATAERR, UserError, user_error
from images.registry import limits
from images.registry.oci import Descriptor, Manifest
from images.registry.transfer import collect_all

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
PIECE = 1 << 20
BUFFER = 1 << 16  # tarfile copies what is left of it at each read
AT_ONCE = 2
WINDOW = 1 << 27  # bytes that zstd looks back, at most
ENTRY, LINE = 450, 200  # bytes that an entry, and a line of a kept file, take in memory
KINDS = dict.fromkeys(tarfile.REGULAR_TYPES, "file")
KINDS |= {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hardlink"}

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
    action = partial(layer, blobs, keep=keep, visit=visit, small=small, memory=Memory())
    return merged(layers(manifest.layers, action))


def layers(descriptors: Sequence[Descriptor], action: Callable[[Descriptor], Layer]) -> list[Layer]:
    """Read each layer once with `action`, some in parallel.

    Raises UserError as `read`.
    """
    found = collect_all(dict.fromkeys(descriptors), action, threading.Event(), AT_ONCE)
    by_digest = {one.digest: one for one in found}
    return [by_digest[one.digest] for one in descriptors]


class Memory:
    """The entries of an image, and an estimate of the memory that they take."""

    def __init__(self) -> None:
        self._left = {"entries": limits.of_layers("entries"), "memory": limits.of_layers("memory")}
        self._lock = threading.Lock()

    def count(self, descriptor: Descriptor) -> None:
        """Count an entry. Raises UserError (65) if the image has too many."""
        if not self._take("entries", 1):
            limit = limits.of_layers("entries")
            raise _damaged(descriptor, f"with it, the image has more than {limit:,} entries")

    def take(self, descriptor: Descriptor, file: File, kept: bytes) -> None:
        """Raises UserError (65) if the limit is exceeded."""
        size = ENTRY + 2 * len(file.path) + len(file.target) + len(kept) + LINE * kept.count(b"\n")
        if not self._take("memory", size):
            limit = limits.of_layers("memory")
            raise _damaged(descriptor, f"needs more than {limit:,} bytes of memory at {file.path}")

    def _take(self, kind: str, size: int) -> bool:
        with self._lock:
            self._left[kind] -= size
            return self._left[kind] >= 0


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
                        memory.count(descriptor)
                        path = _path(member.name, descriptor)
                        chosen = member.isfile() and keep(path)
                        if chosen:
                            _check_size(descriptor, path, member.size)
                        plain.expect(member.size, path)
                        directory, _, name = path.rpartition("/")
                        if name == OPAQUE:
                            emptied.add(directory)
                        elif name.startswith(WHITEOUT):
                            removed.add(posixpath.join(directory, name.removeprefix(WHITEOUT)))
                        elif name:
                            whole = chosen or member.size <= small
                            file, content = _entry(tar, member, path, descriptor, whole)
                            if file.kind == "hardlink" and file.target in files:
                                same = files[file.target]
                                file = replace(file, size=same.size, sha256=same.sha256)
                            files[path] = file
                            kept.pop(path, None)  # of an earlier entry under this path
                            if chosen and content is not None:
                                kept[path] = content
                            memory.take(descriptor, file, kept.get(path, b""))
                            if visit:
                                visit(file, content if file.size <= small else None)
                plain.drain()
            packed.drain()
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, OSError, EOFError) as error:
        raise _damaged(descriptor, f"is not a layer: {error}") from None
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


def _path(name: str, layer: Descriptor) -> str:
    """Normalize a path. Raises UserError (65) if it is too long for any system."""
    path = posixpath.normpath(name).lstrip("/")
    if len(path) > (limit := limits.of_layers("path")):
        raise _damaged(layer, f"has a path of {len(path):,} characters, the limit is {limit:,}")
    return "" if path == "." else path


def _entry(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, layer: Descriptor, whole: bool
) -> tuple[File, bytes | None]:
    """An entry, with its content if `whole`."""
    kind = KINDS.get(member.type, "other")
    if kind != "file":
        target = _path(member.linkname, layer) if kind == "hardlink" else member.linkname
        return File(path, kind, 0, member.mode, layer.digest, target), None
    source = tar.extractfile(member)
    assert source is not None
    digest, content = hashlib.sha256(), None
    if whole:
        content = source.read()
        digest.update(content)
    else:
        while piece := source.read(PIECE):
            digest.update(piece)
    return File(path, kind, member.size, member.mode, layer.digest, "", digest.hexdigest()), content


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
    newest: dict[str, int] = {}  # path → the last layer that has it
    removed: dict[str, int] = {}  # path → the last layer that removes it
    hides: dict[str, int] = {}  # path → the last layer that hides earlier files below it
    for number, one in enumerate(layers):
        newest |= dict.fromkeys(one.files, number)
        removed |= dict.fromkeys(one.removed, number)
        over = (path for path, file in one.files.items() if file.kind != "directory")
        hides |= dict.fromkeys((*one.removed, *one.emptied, *over), number)
    files: dict[str, File] = {}
    kept: dict[str, bytes] = {}
    above = [("", -1)]  # the parents of a path that hide something
    for path in sorted({**newest, **hides}, key=lambda path: path.replace("/", "\0")):
        while not path.startswith(above[-1][0]):
            above.pop()
        number, hidden = newest.get(path, -1), above[-1][1]
        if path in newest and number >= max(hidden, removed.get(path, -1)):
            files[path] = layers[number].files[path]
            if path in layers[number].kept:
                kept[path] = layers[number].kept[path]
        if path in hides:
            above.append((f"{path}/" if path else "", max(hides[path], hidden)))
    return Contents(tuple(layers), files, kept)
