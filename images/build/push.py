"""Push without loading: BuildKit writes an OCI layout, and the registry gets what it lacks.

The engine's own push would unpack every image first. For a second platform or a new base that
takes longer than everything else together.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from common.paths import WORK
from images.registry.oci import Layout

if TYPE_CHECKING:
    from common.terminal import Say
    from images.registry.client import Reference, Repository

LAYOUT = WORK / "oci"


def output(compression: str, force: bool) -> str:
    """Bake's output: one layout for all images, so that each layer is written once.

    `force` compresses again what an earlier build or a base image compressed otherwise.
    """
    LAYOUT.mkdir(parents=True, exist_ok=True)
    options = (
        f"compression={compression},oci-mediatypes=true,force-compression={str(force).lower()}"
    )
    return f"type=oci,tar=false,dest={LAYOUT},{options}"


def push(digest: str, tag: str, certificates: str, say: Say) -> None:
    """Copy an image of the layout to its registry; the tag moves last.

    Raises UserError (65, 69).
    """
    from images.registry.transfer import push_image

    repository, at = _repository(tag, certificates, say)
    push_image(Layout(LAYOUT), digest, repository, at.tag, say)


def resolve(tag: str, certificates: str) -> str:
    """The digest of a tag in its registry; empty if it has none or does not answer."""
    try:
        repository, at = _repository(tag, certificates, lambda line: None)
        return repository.digest(at.tag) or ""
    except UserError:
        return ""


def _repository(tag: str, certificates: str, say: Say) -> tuple[Repository, Reference]:
    """Raises UserError (64) for a tag without a registry."""
    # Here: a build that pushes nothing should not wait for the import.
    from images.registry.client import HttpRepository, Reference

    at = Reference.parse(tag, "--registry")
    return HttpRepository(at.repository, certificates=certificates, say=say), at


def prune_layout(digests: list[str], directory: Path | None = None) -> None:
    """Delete what none of `digests` needs from a layout. What stays serves the next build."""
    layout = Layout(directory or LAYOUT)
    kept = {
        one
        for digest in digests
        for manifest in layout.family(digest)
        for one in (manifest.digest, *(blob.digest for blob in manifest.blobs))
    }
    for path in (layout.directory / "blobs" / "sha256").iterdir():
        if f"sha256:{path.name}" not in kept:
            path.unlink()
    (layout.directory / "index.json").unlink(missing_ok=True)
