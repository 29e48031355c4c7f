"""Images in the terms of OCI and Docker: descriptors, manifests, indexes, layouts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import EX_DATAERR, one_line, user_error
from images.registry import documents, limits

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


@dataclass(frozen=True)
class MediaTypes:
    """The media types of a family; `layers` maps OCI's names to the family's."""

    index: str
    manifest: str
    config: str
    layers: Mapping[str, str]
    annotations: bool


MEDIA_TYPES = {
    "oci": MediaTypes(
        f"{OCI}.index.v1+json",
        f"{OCI}.manifest.v1+json",
        f"{OCI}.config.v1+json",
        {f"{OCI}.layer.v1.tar{packed}": f"{OCI}.layer.v1.tar{packed}" for packed in ("", "+gzip")}
        | {f"{OCI}.layer.v1.tar+zstd": f"{OCI}.layer.v1.tar+zstd"},
        annotations=True,
    ),
    "docker": MediaTypes(
        f"{DOCKER}.distribution.manifest.list.v2+json",
        f"{DOCKER}.distribution.manifest.v2+json",
        f"{DOCKER}.container.image.v1+json",
        {f"{OCI}.layer.v1.tar+gzip": f"{DOCKER}.image.rootfs.diff.tar.gzip"},
        annotations=False,
    ),
}


def media_types(name: str) -> MediaTypes:
    """Raises UserError."""
    if name not in MEDIA_TYPES:
        raise user_error("--media-types", f"'{name}' is not known", " or ".join(MEDIA_TYPES))
    return MEDIA_TYPES[name]


DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
INDEXES = tuple(types.index for types in MEDIA_TYPES.values())
MANIFESTS = (*INDEXES, *(types.manifest for types in MEDIA_TYPES.values()))


@dataclass(frozen=True)
class Descriptor:
    """A reference to a document or blob: media type, digest, size."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Descriptor:
        return cls(raw["mediaType"], raw["digest"], raw["size"])

    @property
    def compression(self) -> str:
        return next((one for one in ("zstd", "gzip") if one in self.media_type), "none")

    @property
    def raw(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index, as bytes: their hash is its digest."""

    media_type: str
    body: bytes

    @classmethod
    def made(cls, document: Mapping[str, Any]) -> Manifest:
        """Serialize a document: always the same bytes for the same document."""
        body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        return cls(document["mediaType"], body)

    @cached_property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    @cached_property
    def document(self) -> dict[str, Any]:
        """Raises UserError (65) if it is not a manifest."""
        found: dict[str, Any] = documents.parse(self.body, "manifest", self.digest)
        return found

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.body))

    @property
    def annotations(self) -> dict[str, str]:
        return dict(self.document.get("annotations") or {})

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    @property
    def children(self) -> list[Descriptor]:
        """The manifests of an index."""
        return [Descriptor.of(raw) for raw in self.document.get("manifests") or []]

    @property
    def layers(self) -> list[Descriptor]:
        return [Descriptor.of(raw) for raw in self.document.get("layers") or []]

    @property
    def blobs(self) -> list[Descriptor]:
        """Configuration and layers, without foreign layers."""
        parts = [self.document.get("config"), *(self.document.get("layers") or [])]
        return [Descriptor.of(raw) for raw in parts if raw and not raw.get("urls")]

    @property
    def arches(self) -> dict[str, str]:
        """Architecture → digest, of an index, without attestations."""
        return {
            raw["platform"]["architecture"]: raw["digest"]
            for raw in self.document.get("manifests") or []
            if (raw.get("platform") or {}).get("architecture", "unknown") != "unknown"
        }


def index(
    types: MediaTypes, parts: Mapping[str, Descriptor], annotations: Mapping[str, str]
) -> Manifest:
    """The index of an image, with one manifest for each architecture, in the given order."""
    document = {
        "schemaVersion": 2,
        "mediaType": types.index,
        "manifests": [
            {**part.raw, "platform": {"architecture": arch, "os": "linux"}}
            for arch, part in parts.items()
        ],
    }
    return Manifest.made(
        {**document, "annotations": annotations} if types.annotations else document
    )


@dataclass(frozen=True)
class Layout:
    """An OCI layout: a directory of blobs by digest."""

    directory: Path

    def path(self, digest: str) -> Path:
        """Raises UserError (65) for what is not a digest: it could lead to any file."""
        if not DIGEST.fullmatch(digest):
            what = f"'{one_line(digest)}' is not a digest"
            raise user_error(str(self.directory), what, "sha256:…", EX_DATAERR)
        return self.directory / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        return bool(DIGEST.fullmatch(digest)) and self.path(digest).is_file()

    def open(self, digest: str) -> BinaryIO:
        """Raises UserError (65) if the blob is missing."""
        path = self.path(digest)
        try:
            return path.open("rb")
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            raise user_error(str(path), what, exit_code=EX_DATAERR) from None

    def family(self, digest: str) -> list[Manifest]:
        """A manifest after all those that it points to. Raises UserError (65)."""
        root = self.manifest(digest)
        below = [one for child in root.children for one in self.family(child.digest)]
        return list(dict.fromkeys([*below, root]))

    def manifest(self, digest: str) -> Manifest:
        """Raises UserError (65) if it is missing or not a manifest."""
        with self.open(digest) as file:
            body = limits.read(file, "manifest", file.name)
        document = documents.parse(body, "manifest", file.name)
        return Manifest(document.get("mediaType", ""), body)

    def whole(self, digest: str) -> bool:
        """Whether the layout has a manifest and all its blobs."""
        return self.has(digest) and all(
            self.has(blob.digest) for blob in self.manifest(digest).blobs
        )


def published(
    layout: Layout, digest: str, arch: str, types: MediaTypes, annotations: Mapping[str, str]
) -> Manifest:
    """The manifest of a built image for a registry: with its media types and annotations.

    Raises UserError (65) if the architecture differs, or a layer has no such media type.
    """
    built = layout.manifest(digest)
    config = json.loads(layout.path(built.document["config"]["digest"]).read_bytes())
    if config.get("architecture") != arch:
        raise user_error(
            digest, f"is built for {config.get('architecture')}, not {arch}", exit_code=EX_DATAERR
        )
    layers = []
    for layer in built.document["layers"]:
        known = {**types.layers, **{name: name for name in types.layers.values()}}
        if layer["mediaType"] not in known:
            raise user_error(
                digest,
                f"has a layer of type {layer['mediaType']}, which these media types lack",
                "--compression gzip",
                EX_DATAERR,
            )
        layers.append({**layer, "mediaType": known[layer["mediaType"]]})
    document = {
        "schemaVersion": 2,
        "mediaType": types.manifest,
        "config": {**built.document["config"], "mediaType": types.config},
        "layers": layers,
    }
    if types.annotations:
        document["annotations"] = {**built.annotations, **annotations}
    return Manifest.made(document)
