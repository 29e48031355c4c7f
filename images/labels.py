"""Labels of an image that other modules read, and the names of its layers."""

from __future__ import annotations

from collections.abc import Sequence

RELEASE = "org.opencontainers.image.version"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
BASE = "ascend.base"
PIN = "ascend.pin."
LAYERS = "ascend.layers"  # names of our layers, from the bottom up
INPUTS = "ascend.inputs"  # digest of everything that the image is made from


def layer_names(own: Sequence[str], count: int) -> list[str]:
    """Name `count` layers: `own`, from the label, on top of the base's.

    Without the label, layers are numbered.
    """
    if not own or len(own) > count:
        return [f"layer {n + 1}" for n in range(count)]
    return [*(f"base {n + 1}" for n in range(count - len(own))), *own]
