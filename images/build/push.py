"""Push without loading: BuildKit writes an OCI layout, oras copies what the registry lacks.

The engine's own push would unpack every image first, which for a second platform or a new base
takes longer than everything else together.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from common.errors import EX_UNAVAILABLE, user_error
from common.paths import WORK

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


def push(digest: str, tag: str) -> None:
    """Copy an image of the layout to its registry under `tag`, which moves when all of it is there.

    Raises UserError (69) with the registry's answer.
    """
    if shutil.which("oras") is None:
        raise user_error("oras", "is not installed", "./setup.sh installs it", EX_UNAVAILABLE)
    command = ["oras", "cp", "--no-tty", "--from-oci-layout", f"{LAYOUT}@{digest}", tag]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        words = " ".join(answer.stderr.split()).removeprefix("Error: ")
        raise user_error(
            tag, f"cannot be pushed: {words}", "docker login, or --registry", EX_UNAVAILABLE
        )


def resolve(tag: str) -> str:
    """The digest that a tag has in its registry; empty when there is none, or no answer."""
    if shutil.which("oras") is None:
        return ""
    answer = subprocess.run(["oras", "resolve", tag], capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def keep(digests: list[str], layout: Path | None = None) -> None:
    """Drop from a layout what none of `digests` is made of: it serves the next build, no more."""
    layout = layout or LAYOUT
    blobs = layout / "blobs" / "sha256"
    kept = {name for digest in digests for name in _reachable(blobs, digest)}
    for blob in blobs.iterdir():
        if blob.name not in kept:
            blob.unlink()
    (layout / "index.json").unlink(missing_ok=True)


def _reachable(blobs: Path, digest: str) -> set[str]:
    name = digest.removeprefix("sha256:")
    found = {name}
    document: dict[str, Any] = json.loads((blobs / name).read_text())
    for part in document.get("manifests", []):
        found |= _reachable(blobs, part["digest"])
    for part in (document.get("config"), *document.get("layers", [])):
        if part:
            found.add(part["digest"].removeprefix("sha256:"))
    return found
