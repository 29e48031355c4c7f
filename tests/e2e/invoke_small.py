"""The project's commands with small images in the place of what BuildKit would build, and a working
directory of its own, as another machine has one.

python -m tests.e2e.invoke_small DIRECTORY publish …
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from invoke.main import program

from common.terminal import Say
from images.build import build, push
from images.build.render import labels as image_labels
from images.build.targets import BuildTarget
from images.labels import BASE_DIGEST
from images.publish import built
from tests.images.hand_made import Layout, digest
from tests.images.small_images import Small, index


def into_layout(
    targets: list[BuildTarget],
    labels: Mapping[BuildTarget, Mapping[str, str]],
    say: Say,
) -> dict[BuildTarget, str]:
    """As `images.build.into_layout`: an index of each image with its provenance."""
    made: dict[BuildTarget, dict[str, str]] = {}
    for target in targets:
        base = {BASE_DIGEST: digest(target.found.identity)}
        given = image_labels(target.matrix, target.variant, target.base)
        told = {**given, **labels[target], **base}
        smalls = [
            Small(arch=arch.name, variant=target.variant, labels=dict(told))
            for arch in target.options.arches
        ]
        layout = Layout(push.LAYOUT)
        made[target] = index(layout, smalls)
        layout.tag("made", made[target])
    return {target: descriptor["digest"] for target, descriptor in made.items()}


def main(directory: str, *command: str) -> None:
    push.LAYOUT = Path(directory) / "oci"
    built.RECORDS = Path(directory) / "parts"
    build.provide_roots = lambda *_: None
    build.into_layout = into_layout
    program.run(["invoke", *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
