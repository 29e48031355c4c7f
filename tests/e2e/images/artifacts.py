"""Images and what refers to them, pushed to a real registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from images.registry import oci
from images.registry.client import HttpRepository, Reference
from images.registry.oci import MEDIA_TYPES, Manifest
from images.registry.transfer import push_image
from tests.images.hand_made import Layout


def push(directory: Path, digest: str, image: str) -> None:
    """Push an image of an OCI layout under a tag."""
    at = Reference.parse(image, "image")
    push_image(oci.Layout(directory), digest, HttpRepository(at.repository), at.tag, print)


def push_artifact(image: str, kind: str, content: bytes = b"{}", **more: Any) -> Manifest:
    """Push under a tag or a digest what is no image; `more` goes into its manifest."""
    at = Reference.parse(image, "image")
    repository = HttpRepository(at.repository)
    with tempfile.TemporaryDirectory() as scratch:
        made = Layout(Path(scratch)).artifact(content, kind, **more)
        layout = oci.Layout(Path(scratch))
        push_image(layout, made["digest"], repository, at.tag or made["digest"], print)
        return layout.manifest(made["digest"])


def attach(repository: str, subject: str, kind: str, content: bytes) -> None:
    """Push what refers to a manifest, and list it under the tag that stands for the interface."""
    there = HttpRepository(repository)
    about = there.manifest(subject)
    assert about
    made = push_artifact(repository, kind, content, subject=about.descriptor.raw)
    entry = {**made.descriptor.raw, "artifactType": kind}
    index = {"schemaVersion": 2, "mediaType": MEDIA_TYPES["oci"].index, "manifests": [entry]}
    there.push_manifest(subject.replace(":", "-"), Manifest.made(index))


def attached(repository: str, subject: str) -> list[str]:
    """The kinds that the tag of a manifest lists."""
    found = HttpRepository(repository).manifest(subject.replace(":", "-"))
    return [one["artifactType"] for one in found.document["manifests"]] if found else []
