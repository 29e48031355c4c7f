"""A registry in memory that has all that is in a layout."""

from __future__ import annotations

from pathlib import Path

from images.contents import image as images
from images.contents.image import Image
from images.registry import oci
from tests.images.hand_made import Layout
from tests.images.publish.publish_fakes import FakeRegistry
from tests.images.small_images import Small


def filled(directory: Path, tag: str = "", digest: str = "") -> FakeRegistry:
    """With `tag` on the manifest `digest`."""
    registry = FakeRegistry()
    for path in (directory / "blobs" / "sha256").iterdir():
        content = path.read_bytes()
        registry.blobs[f"sha256:{path.name}"] = content
        if content.startswith(b'{"schemaVersion"'):
            manifest = oci.Layout(directory).manifest(f"sha256:{path.name}")
            registry.manifests[manifest.digest] = manifest
    if tag:
        registry.tagged[tag] = digest
    return registry


def image(directory: Path, small: Small) -> Image:
    """A small image as it is read."""
    descriptor = small.write(Layout(directory))
    registry = filled(directory)
    return images.image(registry, registry.manifests[descriptor["digest"]])
