"""The image of one architecture: its manifest, configuration and contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError, user_error
from images.contents.layers import Blobs, Contents, read
from images.contents.packages import wanted
from images.registry import documents, limits
from images.registry.oci import Manifest


@dataclass(frozen=True)
class Image:
    """The image of one architecture."""

    manifest: Manifest
    config: Mapping[str, Any]
    contents: Contents

    @property
    def arch(self) -> str:
        return str(self.config.get("architecture", ""))

    @property
    def labels(self) -> dict[str, str]:
        return dict((self.config.get("config") or {}).get("Labels") or {})


def manifests(blobs: Blobs, root: Manifest, arches: Sequence[str] = ()) -> dict[str, Manifest]:
    """Architecture → manifest, of an index or a single image; all, or `arches`.

    Raises UserError (65) for every one that is missing.
    """
    if root.is_index:
        digests = root.arches
    else:
        digests = {str(config(blobs, root).get("architecture", "")): root.digest}
    found, problems = {}, []
    for arch in arches or digests:
        manifest = blobs.manifest(digests[arch]) if arch in digests else None
        if manifest is None:
            there = f"the image has {', '.join(digests) or 'none'}"
            problems.append(Finding(f"manifest of {arch}", "is missing", there))
        else:
            found[arch] = manifest
    if problems:
        raise UserError(problems, EX_DATAERR)
    return found


def config_digest(manifest: Manifest) -> str:
    """Raises UserError (65) if it is not the manifest of an image."""
    config = manifest.document.get("config")
    if not config:
        what = "is not the manifest of an image: it has no configuration"
        raise user_error(manifest.digest, what, exit_code=EX_DATAERR)
    return str(config["digest"])


def config(blobs: Blobs, manifest: Manifest) -> dict[str, Any]:
    """Raises UserError (65) if it is not a configuration, or does not match its digest."""
    digest = config_digest(manifest)
    with blobs.open_blob(digest) as blob:
        content = limits.read(blob, "configuration", f"config {digest[:19]}")
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise user_error(f"config {digest[:19]}", "the content has another digest", "", EX_DATAERR)
    found: dict[str, Any] = documents.parse(content, "configuration", f"config {digest[:19]}")
    return found


def image(blobs: Blobs, manifest: Manifest) -> Image:
    """Read the image of one architecture. Raises UserError (65, 69)."""
    return Image(manifest, config(blobs, manifest), read(blobs, manifest, keep=wanted))
