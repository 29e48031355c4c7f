"""Push without loading: BuildKit writes an OCI layout, and the registry gets what it lacks of it.

The engine's own push would unpack every image first, which for a second platform or a new base
takes longer than everything else together.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from common.paths import WORK
from images.registry.oci import Layout

if TYPE_CHECKING:
    from images.registry.client import Reference, Repository
    from images.registry.transfer import Say

LAYOUT = WORK / "oci"


def output(compression: str, force: bool) -> str:
    """Bake's output: one layout for all images, so that a layer is written once.

    With `force`, a layer that an earlier build compressed otherwise is made again; without, it
    stays as it is, and so do those of a base image.
    """
    LAYOUT.mkdir(parents=True, exist_ok=True)
    options = (
        f"compression={compression},oci-mediatypes=true,force-compression={str(force).lower()}"
    )
    return f"type=oci,tar=false,dest={LAYOUT},{options}"


def push(digest: str, tag: str, certificates: str, say: Say) -> None:
    """Copy an image of the layout to its registry under `tag`, which moves when all of it is there.

    Raises UserError (65, 69).
    """
    from images.registry.transfer import push_image

    repository, at = _repository(tag, certificates)
    push_image(Layout(LAYOUT), digest, repository, at.tag, say)


def resolve(tag: str, certificates: str) -> str:
    """The digest that a tag has in its registry; empty when there is none, or no answer."""
    try:
        repository, at = _repository(tag, certificates)
        return repository.digest(at.tag) or ""
    except UserError:
        return ""


def _repository(tag: str, certificates: str) -> tuple[Repository, Reference]:
    """Raises UserError (64) for a tag without a registry."""
    # Here: a build that pushes nothing should not wait for the import.
    from images.registry.client import HttpRepository, Reference

    at = Reference.parse(tag, "--registry")
    return HttpRepository(at.repository, certificates=certificates), at


def prune_layout(digests: list[str], directory: Path | None = None) -> None:
    """Drop from a layout what none of `digests` is made of: it serves the next build, no more."""
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
