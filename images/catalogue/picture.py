"""The picture of layers: a bar for each image, a colour for each layer that images share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from images.inspect.model import Image

COLOURS = 12  # of style.css
LEAST = 0.3  # per cent: what is smaller would not be seen
NAMED = 9.0  # per cent from which a name has room


@dataclass(frozen=True)
class Block:
    """One layer; `left` and `width` in per cent. `colour` is None unless images share it."""

    name: str
    digest: str
    size: int
    left: float
    width: float
    colour: int | None
    label: str


@dataclass(frozen=True)
class Bar:
    """One image."""

    title: str
    size: int
    blocks: tuple[Block, ...]


def bars(images: Sequence[Image]) -> list[Bar]:
    """All bars on one scale. Colours follow the order in which shared layers appear."""
    count = Counter(digest for one in images for digest in {layer.digest for layer in one.layers})
    shared = [d for one in images for layer in one.layers if count[d := layer.digest] > 1]
    colours = {digest: n % COLOURS for n, digest in enumerate(dict.fromkeys(shared))}
    scale = max((one.size for one in images), default=0) or 1
    return [_bar(one, scale, colours) for one in images]


def _bar(image: Image, scale: int, colours: dict[str, int]) -> Bar:
    whole = 100 * image.size / scale
    seen = [max(100 * layer.size / scale, LEAST) for layer in image.layers]
    shrink = whole / sum(seen) if seen and whole else 1
    blocks, left = [], 0.0
    for layer, width in zip(image.layers, seen, strict=True):
        width *= shrink
        label = layer.name if width >= NAMED else ""
        place = {"left": round(left, 3), "width": round(width, 3)}
        colour = colours.get(layer.digest)
        blocks.append(
            Block(layer.name, layer.digest, layer.size, **place, colour=colour, label=label)
        )
        left += width
    return Bar(image.title, image.size, tuple(blocks))
