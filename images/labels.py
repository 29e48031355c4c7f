"""The labels of an image that other modules read again, and what its layers are called by them."""

from __future__ import annotations

from collections.abc import Sequence

RELEASE = "org.opencontainers.image.version"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
BASE = "ascend.base"
PIN = "ascend.pin."
LAYERS = "ascend.layers"  # the names of our layers from the bottom up, without the base's
INPUTS = "ascend.inputs"  # the digest of everything that the image is made from


def layer_names(own: Sequence[str], count: int) -> list[str]:
    """The names of `count` layers: `own`, as the image says, on top of the base's.

    Of an image that does not say, the layers have numbers.
    """
    if not own or len(own) > count:
        return [f"layer {n + 1}" for n in range(count)]
    return [*(f"base {n + 1}" for n in range(count - len(own))), *own]
