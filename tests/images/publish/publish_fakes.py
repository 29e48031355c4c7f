"""A registry in memory that can die at any operation, and small images to publish to it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from images.build.inputs import Inputs
from images.publish.publish import Image
from images.registry.client import Source
from images.registry.oci import MEDIA_TYPES, Descriptor, Layout, Manifest

OCI = MEDIA_TYPES["oci"]


@dataclass(frozen=True)
class Part:
    """One built architecture of an image: a manifest in an OCI layout."""

    tag: str
    arch: str
    digest: str
    inputs: str


def built(parts: Iterable[Part]) -> Callable[[Image], dict[str, str]]:
    """Architecture → digest of what is built of an image."""

    def of(image: Image) -> dict[str, str]:
        own = (image.tag, image.inputs.digest)
        return {one.arch: one.digest for one in parts if (one.tag, one.inputs) == own}

    return of


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Killed(BaseException):
    """The process is gone: nothing in it can react."""


class FakeRegistry:
    """Keeps blobs and manifests; after `left` more operations the process that uses it is dead."""

    def __init__(self, name: str = "registry.example.com/team/vllm-ascend") -> None:
        self.name = name
        self.stop = threading.Event()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, Manifest] = {}
        self.tagged: dict[str, str] = {}
        self.log: list[str] = []
        self.left: int | None = None
        self.deletes_tags = True
        self.has_referrers = False
        self._lock = threading.RLock()

    # ---- the protocol ----

    def digest(self, reference: str) -> str | None:
        found = self.manifest(reference)
        return found.digest if found else None

    def manifest(self, reference: str) -> Manifest | None:
        with self._operation(f"look up {reference}"):
            return self.manifests.get(self.tagged.get(reference, reference))

    def blob_size(self, digest: str) -> int | None:
        with self._operation(f"look up {digest}"):
            return len(self.blobs[digest]) if digest in self.blobs else None

    def open_blob(self, digest: str) -> AbstractContextManager[BinaryIO]:
        return closing(io.BytesIO(self.blobs[digest]))

    def push_blob(self, blob: Descriptor, source: Source, mount_from: str = "") -> None:
        with self._operation(f"upload {blob.digest}"), source() as file:
            content = file.read()
            assert sha256(content) == blob.digest
            assert blob.digest not in self.blobs, "pushed twice"
            self.blobs[blob.digest] = content

    def push_manifest(self, reference: str, manifest: Manifest) -> bool:
        with self._operation(f"put {reference}"):
            assert not list(self.lacks(manifest)), "a registry refuses what is not whole"
            self.manifests[manifest.digest] = manifest
            if not reference.startswith("sha256:"):
                self.tagged[reference] = manifest.digest
            subject = "subject" in manifest.document
            return subject and self.has_referrers

    def tags(self) -> list[str]:
        with self._operation("list"):
            return sorted(self.tagged)

    def delete_tag(self, tag: str) -> bool:
        with self._operation(f"delete {tag}"):
            return self.deletes_tags and bool(self.tagged.pop(tag, None))

    def delete_manifest(self, digest: str) -> None:
        with self._operation(f"delete {digest}"):
            self.manifests.pop(digest, None)
            self.tagged = {tag: to for tag, to in self.tagged.items() if to != digest}

    def referrers(self, digest: str) -> list[Descriptor] | None:
        if not self.has_referrers:
            return None
        own = [one for one in self.manifests.values() if _subject(one) == digest]
        return [one.descriptor for one in own]

    # ---- what a test asks ----

    def lacks(self, manifest: Manifest) -> Iterable[str]:
        """Everything that a manifest needs and that is not there."""
        for child in manifest.children:
            if child.digest in self.manifests:
                yield from self.lacks(self.manifests[child.digest])
            else:
                yield child.digest
        yield from (blob.digest for blob in manifest.blobs if blob.digest not in self.blobs)

    def real_tags(self) -> dict[str, str]:
        return {tag: to for tag, to in self.tagged.items() if not tag.startswith("tmp-")}

    def collect(self) -> None:
        """What a registry's garbage collection does: what no tag leads to is gone."""
        kept: set[str] = set()
        waiting = list(self.tagged.values())
        while waiting:
            manifest = self.manifests[waiting.pop()]
            kept |= {manifest.digest, *(blob.digest for blob in manifest.blobs)}
            waiting += [child.digest for child in manifest.children]
        self.manifests = {d: one for d, one in self.manifests.items() if d in kept}
        self.blobs = {d: one for d, one in self.blobs.items() if d in kept}

    def uploads(self) -> list[str]:
        return [line for line in self.log if line.startswith("upload")]

    def _operation(self, words: str) -> AbstractContextManager[None]:
        return _Operation(self, words)


class ForgetfulRegistry(FakeRegistry):
    """Loses a blob when the first manifest comes, and does not look at what a manifest needs."""

    def __init__(self, lost: str) -> None:
        super().__init__()
        self.lost = lost

    def push_manifest(self, reference: str, manifest: Manifest) -> bool:
        self.blobs.pop(self.lost, None)
        return super().push_manifest(reference, manifest)

    def lacks(self, manifest: Manifest) -> Iterable[str]:
        return ()


class _Operation(AbstractContextManager[None]):
    """One at a time; counts down to the kill."""

    def __init__(self, registry: FakeRegistry, words: str) -> None:
        self.registry = registry
        self.words = words

    def __enter__(self) -> None:
        registry = self.registry
        registry._lock.acquire()
        if registry.left == 0:
            registry._lock.release()
            raise Killed
        if registry.left is not None:
            registry.left -= 1
        registry.log.append(self.words)

    def __exit__(self, *_: object) -> None:
        self.registry._lock.release()


def _subject(manifest: Manifest) -> str:
    return str(manifest.document.get("subject", {}).get("digest", ""))


# ---- small images --------------------------------------------------------------------------------


def layer(name: str, content: bytes) -> bytes:
    """A gzipped tar of one file, the same bytes each time."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=0)


def write_image(layout: Layout, arch: str, layers: Mapping[str, bytes]) -> str:
    """Write an image as BuildKit would into a layout; returns its manifest's digest."""

    def write(content: bytes) -> dict[str, Any]:
        path = layout.path(sha256(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"digest": sha256(content), "size": len(content)}

    packed = [layer(name, content) for name, content in layers.items()]
    config = {
        "architecture": arch,
        "os": "linux",
        "config": {"Labels": {"ascend.platform": "a3"}},
        "rootfs": {"type": "layers", "diff_ids": [sha256(gzip.decompress(one)) for one in packed]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "config": {"mediaType": OCI.config, **write(json.dumps(config).encode())},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **write(one)}
            for one in packed
        ],
    }
    return str(write(json.dumps(manifest).encode())["digest"])


def small_release(
    directory: Path, *, changed: str = "", size: int = 3000, tags: Iterable[str] = ("v1", "v1-a3")
) -> tuple[Layout, list[Image], list[Part]]:
    """Two platforms on two architectures that share most layers; one layer may be `changed`."""
    layout = Layout(directory)
    images, parts = [], []
    for tag in tags:
        stages = {name: sha256((name + changed * (name == "layer-mooncake")).encode())[7:19]
                  for name in ("base", "layer-torch", "layer-mooncake")}  # fmt: skip
        stages["image"] = sha256(f"{tag}{stages}".encode())[7:19]
        digest = sha256(f"{tag}{stages}".encode())[7:]
        parents = {"image": ("layer-torch", "layer-mooncake"), "layer-torch": ("base",)}
        image = Image(tag, Inputs(digest, stages, parents), ("arm64", "amd64"))
        images.append(image)
        for arch in image.arches:
            found = write_image(
                layout,
                arch,
                {
                    "base": _noise(f"base {arch}", size),
                    "torch": _noise(f"torch {arch}", size),
                    "mooncake": _noise(f"mooncake {changed}", size),
                    "vllm-ascend": _noise(f"vllm-ascend {tag}", size),
                },
            )
            parts.append(Part(tag, arch, found, digest))
    return layout, images, parts


def _noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)
