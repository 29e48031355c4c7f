"""Stores of images: an OCI layout, the engine, a registry."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from common import docker
from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError, did_you_mean, merged, user_error
from common.files import write_atomically
from common.paths import WORK
from common.terminal import Say
from images.build import engine
from images.contents.layers import Blobs
from images.registry import documents
from images.registry.client import HttpRepository, Reference
from images.registry.oci import Descriptor, Layout, Manifest

LAYOUT, ENGINE, REGISTRY = PLACES = ("layout", "engine", "registry")
CACHE = WORK / "inspect" / "engine"
SMALL = 1_000_000  # bytes: manifests and configurations, no layers worth mentioning
NAME = "org.opencontainers.image.ref.name"
ENGINE_NAME = "io.containerd.image.name"


class Store(Blobs, Protocol):
    """A repository in a registry, or what can be read like one."""

    def tags(self) -> list[str]: ...

    def referrers(self, digest: str) -> list[Descriptor] | None: ...


@dataclass(frozen=True)
class LocatedImage:
    """An image: the name that the user gave, its store, and its tag or digest there."""

    reference: str
    place: str
    store: Store
    key: str


@dataclass(frozen=True)
class LayoutStore:
    """An OCI layout with the tags of its index."""

    layout: Layout

    def tags(self) -> list[str]:
        return sorted(name for raw in self._entries() if (name := _name(raw)))

    def manifest(self, reference: str) -> Manifest | None:
        entries = self._entries()
        digests = [raw["digest"] for raw in entries if reference in (_name(raw), raw["digest"])]
        if not digests and not self.layout.has(reference):
            return None
        return self.layout.manifest(digests[0] if digests else reference)

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[BinaryIO]:
        with self.layout.open(digest) as file:
            yield file

    def referrers(self, digest: str) -> list[Descriptor]:
        listed = (Descriptor.of(raw) for raw in self._entries())
        return [one for one in listed if _subject(self.layout.manifest(one.digest)) == digest]

    def _entries(self) -> list[dict[str, Any]]:
        path = self.layout.directory / "index.json"
        try:
            with path.open("rb") as file:
                return list(documents.read(file, "index of a layout", str(path))["manifests"] or [])
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            fix = "a directory with an OCI layout"
            raise user_error(str(path), what, fix, EX_DATAERR) from None


class EngineStore:
    """The Docker engine. It cannot export a single layer, so it exports the whole image for a layer
    that is not cached."""

    def __init__(self, names: Mapping[str, str], scratch: Path, say: Say) -> None:
        self.names = names  # digest → an image's name in the engine
        self._say = say
        self._lock = threading.Lock()  # layers are read by several threads
        self._cache = Layout(CACHE)
        self._uncached = [name for key, name in names.items() if not self._cache.has(key)]
        self._exported = LayoutStore(Layout(scratch))

    def manifest(self, reference: str) -> Manifest | None:
        if not reference.startswith("sha256:"):
            return None  # the engine has no tag for what refers to an image
        if not self._cache.has(reference) and reference in self.names:
            self._cache_documents(self.names[reference])
        if self._cache.has(reference):
            return self._cache.manifest(reference)
        self._export()
        tags = {engine_name(tag): tag for tag in self._exported.tags()}
        name = tags.get(self.names.get(reference, ""), reference)
        return self._exported.manifest(name)

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[BinaryIO]:
        layout = self._cache
        if not layout.has(digest):
            self._export()
            layout = self._exported.layout
        with layout.open(digest) as file:
            yield file

    def tags(self) -> list[str]:
        return sorted(self.names.values())

    def referrers(self, digest: str) -> list[Descriptor]:
        return []

    def _cache_documents(self, name: str) -> None:
        for digest, content in engine.documents(name).items():
            write_atomically(self._cache.path(digest), content, parents=True)

    def _export(self) -> None:
        """Export all images at once, so that shared layers are written once."""
        with self._lock:
            if not (self._exported.layout.directory / "index.json").is_file():
                self._run_docker_save()

    def _run_docker_save(self) -> None:
        layout = self._exported.layout.directory
        names = self._uncached or list(self.names.values())
        self._say(f"reading from the engine: {', '.join(names)}")
        with subprocess.Popen(
            ["docker", "save", *names], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as save:
            unpack = subprocess.run(
                ["tar", "-x", "-C", str(layout)], stdin=save.stdout, capture_output=True, text=True
            )
            _, errors = save.communicate()
        if save.returncode or unpack.returncode:
            words = " ".join(f"{errors.decode(errors='replace')} {unpack.stderr}".split())
            raise user_error("docker save", words, "", EX_UNAVAILABLE)
        for blob in (layout / "blobs" / "sha256").iterdir():
            if blob.stat().st_size < SMALL:
                kept = self._cache.path(f"sha256:{blob.name}")
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(blob, kept)


def _name(raw: dict[str, Any]) -> str:
    """The tag of a manifest in an index; from the engine, the full name."""
    names: dict[str, str] = raw.get("annotations") or {}
    return names.get(ENGINE_NAME) or names.get(NAME) or ""


def _subject(manifest: Manifest) -> str:
    return str((manifest.document.get("subject") or {}).get("digest", ""))


@contextmanager
def open_images(
    references: Sequence[str], at: str, certificates: str, say: Say
) -> Iterator[list[LocatedImage]]:
    """Locate images. Without `at`, look in layouts, the engine and registries, in this order.

    Images of the engine are exported to a scratch directory.
    Raises UserError (64, 65, 69) with every reference that is not found.
    """
    if at and at not in PLACES:
        raise user_error("--at", f"'{at}' is not known", did_you_mean(at, PLACES))
    errors: list[UserError] = []
    found: dict[str, LocatedImage | None] = {}
    for reference in references:
        try:
            found[reference] = _locate(reference, at, certificates, say)
        except UserError as error:
            errors.append(error)
    if errors:
        raise merged(errors)
    in_engine = {reference: _id(reference) for reference, one in found.items() if one is None}
    with tempfile.TemporaryDirectory(prefix="inspect-") as scratch:
        names = {digest: reference for reference, digest in in_engine.items()}
        store = EngineStore(names, Path(scratch), say)
        yield [
            found[name] or LocatedImage(name, ENGINE, store, in_engine[name]) for name in references
        ]


def _locate(reference: str, at: str, certificates: str, say: Say) -> LocatedImage | None:
    """Where an image is; None if it is in the engine."""
    if reference.startswith("-"):
        raise user_error("IMAGE", f"'{reference}' is not an image", "invoke inspect --help")
    if at in ("", LAYOUT):
        directory, key = split_reference(reference)
        if (directory / "index.json").is_file():
            return _in_layout(reference, directory, key)
        if at == LAYOUT:
            raise user_error(reference, "is not an OCI layout", "DIR, DIR:TAG or DIR@DIGEST")
    if at in ("", ENGINE) and _id(reference):
        return None
    if at == ENGINE:
        fix = "docker images lists what it has"
        raise user_error(reference, "is not in the engine", fix, EX_UNAVAILABLE)
    if at == "" and "/" not in reference:
        fix = "docker images; a registry's image is named REGISTRY/NAME:TAG"
        raise user_error(reference, "is neither in the engine nor a layout", fix, EX_UNAVAILABLE)
    named = Reference.parse(reference, "IMAGE")
    key = named.digest or named.tag or "latest"
    repository = HttpRepository(named.repository, certificates=certificates, say=say)
    if repository.manifest(key) is None:
        tags = repository.tags()
        fix = did_you_mean(key, tags) if tags else "it has no tags"
        raise user_error(reference, "is not in the registry", fix, EX_UNAVAILABLE)
    return LocatedImage(reference, REGISTRY, repository, key)


def split_reference(reference: str) -> tuple[Path, str]:
    """Directory and tag or digest of `DIR`, `DIR:TAG`, `DIR@DIGEST`."""
    for at, sign in enumerate(reference):
        if sign in ":@" and Path(reference[:at]).is_dir():
            return Path(reference[:at]), reference[at + 1 :]
    return Path(reference), ""


def _in_layout(reference: str, directory: Path, key: str) -> LocatedImage:
    store = LayoutStore(Layout(directory))
    tags = store.tags()
    if not key and len(tags) != 1:
        what = f"has {len(tags)} tags" if tags else "has no tags"
        raise user_error(
            reference, what, f"{directory}:TAG of {', '.join(tags) or 'none'}, or @DIGEST"
        )
    key = key or tags[0]
    if store.manifest(key) is None:
        raise user_error(reference, "is not in the layout", did_you_mean(key, tags), EX_DATAERR)
    return LocatedImage(reference, LAYOUT, store, key)


def engine_name(name: str) -> str:
    """A name as the engine shows it."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def _id(reference: str) -> str:
    """The digest of an image in the engine; empty if it has none, or docker is missing."""
    return docker.image_id(reference) if shutil.which("docker") else ""
