"""What is inside an image: its layers' files, its Python packages, its distribution's packages.

Layers are streamed from where they are, nothing is unpacked to disk; each is held to its digest.

    contents = read(store, store.manifest("v0.13.0rc1"))
    packages(contents), os_packages(contents), contents.files["etc/passwd"]
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import sqlite3
import struct
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import HeaderParser
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import zstandard
from urllib3.exceptions import HTTPError

from images.errors import EX_DATAERR, EX_UNAVAILABLE, Problem, UserError, fail
from images.registry.oci import Descriptor, Manifest
from images.registry.transfer import each

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
DPKG, DPKG_PARTS = "var/lib/dpkg/status", "var/lib/dpkg/status.d/"
RPM = ("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite")
OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
PIECE = 1 << 20
LAYERS_AT_ONCE = 2
RPM_TAGS = {1000: "name", 1001: "version", 1002: "release", 1003: "epoch", 1014: "license"}
RPM_TAGS |= {1022: "arch"}

Visit = Callable[["File", bytes | None], None]
Keep = Callable[[str], bool]


class Blobs(Protocol):
    """Where images come from: a registry's repository, an OCI layout."""

    def manifest(self, reference: str) -> Manifest | None: ...

    def open_blob(self, digest: str) -> AbstractContextManager[BinaryIO]: ...


@dataclass(frozen=True)
class File:
    """One entry of a layer: `path` without a leading slash, `sha256` where it has content."""

    path: str
    kind: str  # file, directory, link, hardlink, other
    size: int
    mode: int
    layer: str
    target: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer as it was read; `kept` are the contents that were asked for."""

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
    """An image's layers, and the files that a container sees."""

    layers: tuple[Layer, ...]
    files: Mapping[str, File]
    kept: Mapping[str, bytes]


@dataclass(frozen=True)
class Image:
    """One architecture's image: its manifest, its configuration and what is inside."""

    manifest: Manifest
    config: Mapping[str, Any]
    contents: Contents

    @property
    def arch(self) -> str:
        return str(self.config.get("architecture", ""))

    @property
    def labels(self) -> dict[str, str]:
        return dict((self.config.get("config") or {}).get("Labels") or {})


@dataclass(frozen=True)
class PythonPackage:
    """A dist-info directory: `directory` is the one that it and its modules are in."""

    name: str
    version: str
    directory: str
    layer: str
    metadata: Message = field(compare=False, repr=False)
    record: str = field(compare=False, repr=False)


@dataclass(frozen=True)
class OsPackage:
    """An entry of dpkg's or rpm's database; `kind` is deb or rpm, `license` only rpm tells."""

    kind: str
    name: str
    version: str
    arch: str
    layer: str
    source: str = ""
    license: str = ""


def wanted(path: str) -> bool:
    """The files that packages are read from."""
    if path == DPKG or path.startswith(DPKG_PARTS) or path in (*RPM, *OS_RELEASE):
        return True
    directory, _, name = path.rpartition("/")
    return name in ("METADATA", "RECORD") and directory.endswith(".dist-info")


# ---- images --------------------------------------------------------------------------------------


def manifests(blobs: Blobs, root: Manifest, arches: Sequence[str] = ()) -> dict[str, Manifest]:
    """Architecture → manifest, of an index or of one image; all of them, or `arches`.

    Raises UserError (65) for every one that is not there.
    """
    if root.is_index:
        digests = root.arches
    else:
        digests = {str(config(blobs, root).get("architecture", "")): root.digest}
    found, problems = {}, []
    for arch in arches or digests:
        manifest = blobs.manifest(digests[arch]) if arch in digests else None
        if manifest is None:
            there = f"the image names {', '.join(digests) or 'none'}"
            problems.append(Problem(f"manifest of {arch}", "is not there", there))
        else:
            found[arch] = manifest
    if problems:
        raise UserError(problems, EX_DATAERR)
    return found


def config_digest(manifest: Manifest) -> str:
    """Raises UserError (65) when it is no manifest of an image."""
    try:
        layers = manifest.document.get("layers") or []
        config, *_ = [Descriptor.of(raw) for raw in (manifest.document["config"], *layers)]
        return config.digest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"is no image's manifest: {error!r}"
        raise fail(manifest.digest, what, exit_code=EX_DATAERR) from None


def config(blobs: Blobs, manifest: Manifest) -> dict[str, Any]:
    """Raises UserError (65) when it is no configuration, or not what its digest says."""
    digest = config_digest(manifest)
    with blobs.open_blob(digest) as blob:
        content = blob.read()
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise fail(f"config {digest[:19]}", "the content has another digest", "", EX_DATAERR)
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as error:
        what = f"is no configuration: {error}"
        raise fail(f"config {digest[:19]}", what, exit_code=EX_DATAERR) from None


def image(blobs: Blobs, manifest: Manifest) -> Image:
    """Read one architecture's image. Raises UserError (65, 69)."""
    return Image(manifest, config(blobs, manifest), read(blobs, manifest))


# ---- layers --------------------------------------------------------------------------------------


def read(
    blobs: Blobs,
    manifest: Manifest,
    *,
    keep: Keep = wanted,
    visit: Visit | None = None,
    small: int = PIECE,
) -> Contents:
    """Read all layers of one architecture's image.

    `visit` gets every file of every layer, with the content of those up to `small` bytes.
    Raises UserError: 65 with every layer that is not what its digest says, 69 from a registry.
    """
    descriptors = [Descriptor.of(raw) for raw in manifest.document.get("layers") or []]
    layers = each(
        dict.fromkeys(descriptors),
        partial(_caught, partial(layer, blobs, keep=keep, visit=visit, small=small)),
        threading.Event(),
        LAYERS_AT_ONCE,
    )
    problems = [one for one in layers if isinstance(one, Problem)]
    if problems:
        raise UserError(problems, EX_DATAERR)
    by_digest = {one.digest: one for one in layers if isinstance(one, Layer)}
    return merged([by_digest[one.digest] for one in descriptors])


def _caught(action: Callable[[Descriptor], Layer], descriptor: Descriptor) -> Layer | Problem:
    """One damaged layer must not hide another."""
    try:
        return action(descriptor)
    except UserError as error:
        if error.exit_code != EX_DATAERR:
            raise
        return error.problems[0]


def layer(
    blobs: Blobs,
    descriptor: Descriptor,
    *,
    keep: Keep = wanted,
    visit: Visit | None = None,
    small: int = PIECE,
) -> Layer:
    """Read one layer. Raises UserError (65) when it is damaged or has another digest."""
    files: dict[str, File] = {}
    kept: dict[str, bytes] = {}
    removed, emptied = set(), set()
    try:
        with blobs.open_blob(descriptor.digest) as blob:
            packed = _Hashed(blob)
            with _unpacked(packed) as stream:
                plain = _Hashed(stream)
                with tarfile.open(fileobj=cast(BinaryIO, plain), mode="r|", bufsize=PIECE) as tar:
                    for member in tar:
                        directory, name = posixpath.split(_path(member.name))
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
                            if visit:
                                within = content is not None and file.size <= small
                                visit(file, content if within else None)
                plain.drain()
            packed.drain()
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, OSError, EOFError) as error:
        raise _damaged(descriptor, f"is no layer: {error}") from None
    except HTTPError as error:  # urllib3's: the registry's answer was cut
        words = f"the connection was cut: {error}"
        raise fail(f"layer {descriptor.digest[:19]}", words, "", EX_UNAVAILABLE) from None
    if packed.digest != descriptor.digest:
        raise _damaged(descriptor, f"the content has another digest, {packed.digest}")
    return Layer(
        *(descriptor.digest, plain.digest, descriptor.size, plain.size),
        *(files, kept, frozenset(removed), frozenset(emptied)),
    )


def _damaged(descriptor: Descriptor, what: str) -> UserError:
    return fail(f"layer {descriptor.digest[:19]}", what, exit_code=EX_DATAERR)


def _path(name: str) -> str:
    path = posixpath.normpath(name).lstrip("/")
    return "" if path == "." else path


def _entry(
    tar: tarfile.TarFile, member: tarfile.TarInfo, layer: str, keep: Keep, small: int
) -> tuple[File, bytes | None]:
    """An entry, and its content when that is small or to be kept."""
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
    """Counts and hashes what is read through it."""

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


class _Again:
    """A stream whose first bytes were looked at already."""

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
    """By the first bytes: a media type may name a compression that is not there."""
    head = packed.read(4)
    stream = cast(BinaryIO, _Again(head, packed))
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=stream) as plain:
            yield cast(BinaryIO, plain)
    elif head == b"\x28\xb5\x2f\xfd":
        decompressor = zstandard.ZstdDecompressor()
        with decompressor.stream_reader(stream, read_across_frames=True) as plain:
            yield cast(BinaryIO, plain)
    else:
        yield stream


def merged(layers: Sequence[Layer]) -> Contents:
    """What a container sees: each layer over those before it, without what it takes away."""
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


# ---- packages ------------------------------------------------------------------------------------


def packages(contents: Contents) -> list[PythonPackage]:
    """Every dist-info of the image, by name and place."""
    found = []
    for path, content in contents.kept.items():
        place, _, name = path.rpartition("/")
        if name == "METADATA" and place.endswith(".dist-info"):
            metadata = HeaderParser().parsestr(content.decode("utf-8", "replace"))
            record = contents.kept.get(f"{place}/RECORD", b"").decode("utf-8", "replace")
            found.append(
                PythonPackage(
                    str(metadata.get("Name", "")),
                    str(metadata.get("Version", "")),
                    posixpath.dirname(place),
                    contents.files[path].layer,
                    metadata,
                    record,
                )
            )
    return sorted(found, key=lambda one: (one.name.lower(), one.directory, one.version))


def os_packages(contents: Contents) -> list[OsPackage]:
    """The distribution's packages: of dpkg, and of rpm where its database is SQLite.

    Raises UserError (65) for a database that cannot be read.
    """
    found: list[OsPackage] = []
    for path, content in contents.kept.items():
        layer = contents.files[path].layer
        if path == DPKG or path.startswith(DPKG_PARTS):
            found += _dpkg(content.decode("utf-8", "replace"), layer)
        elif path in RPM:
            found += _rpm(content, path, layer)
    return sorted(found, key=lambda one: (one.name, one.arch, one.version))


def _dpkg(status: str, layer: str) -> Iterator[OsPackage]:
    for paragraph in status.split("\n\n"):
        fields = HeaderParser().parsestr(paragraph.lstrip("\n"))
        state = fields.get("Status", "install ok installed").split()
        if fields.get("Package") and state[-1] == "installed":
            name, version = fields["Package"], fields.get("Version", "")
            source = fields.get("Source", name).split()[0]
            yield OsPackage("deb", name, version, fields.get("Architecture", ""), layer, source)


def _rpm(database: bytes, path: str, layer: str) -> Iterator[OsPackage]:
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as scratch:
        Path(scratch.name).write_bytes(database)
        try:
            with closing(sqlite3.connect(f"file:{scratch.name}?immutable=1", uri=True)) as opened:
                blobs = [row[0] for row in opened.execute("SELECT blob FROM Packages")]
            headers = [_rpm_header(blob) for blob in blobs]
        except (sqlite3.Error, struct.error, ValueError, IndexError) as error:
            what = f"is no database of rpm: {error}"
            raise fail(path, what, exit_code=EX_DATAERR) from None
    for header in headers:
        epoch = f"{header['epoch']}:" if header.get("epoch") else ""
        version = f"{epoch}{header['version']}-{header['release']}"
        if header["name"] != "gpg-pubkey":
            yield OsPackage(
                *("rpm", header["name"], version, header.get("arch", "noarch"), layer),
                license=header.get("license", ""),
            )


def _rpm_header(blob: bytes) -> dict[str, str]:
    """The tags that matter of a header: two lengths, entries (tag, type, offset, count), data."""
    entries, _ = struct.unpack_from(">II", blob)
    data = io.BytesIO(blob[8 + 16 * entries :]).getbuffer()
    header = {}
    for number in range(entries):
        tag, kind, offset, _ = struct.unpack_from(">IIiI", blob, 8 + 16 * number)
        if tag in RPM_TAGS:
            if kind == 4:
                value = str(struct.unpack_from(">I", data, offset)[0])
            else:
                value = bytes(data[offset:]).partition(b"\0")[0].decode("utf-8", "replace")
            header[RPM_TAGS[tag]] = value
    missing = {"name", "version", "release"} - header.keys()
    if missing:
        raise ValueError(f"a header without {', '.join(sorted(missing))}")
    return header
