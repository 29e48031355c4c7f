"""What an image weighs on the wire, layer by layer: its manifest says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from images.labels import layer_names
from images.registry.oci import Descriptor, Manifest


@dataclass(frozen=True)
class Weight:
    """One architecture: layer → compressed bytes, from the bottom up.

    `compression` is that of the largest layer: a base may bring another.
    """

    arch: str
    compression: str
    layers: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.layers.values())


def weigh(arch: str, manifest: Manifest, own: Sequence[str]) -> Weight:
    """`own` are the names of our layers, on top of the base's."""
    layers = [Descriptor.of(raw) for raw in manifest.document["layers"]]
    names = layer_names(own, len(layers))
    sizes = {name: layer.size for name, layer in zip(names, layers, strict=True)}
    return Weight(arch, main_compression(layers), sizes)


def main_compression(layers: Sequence[Descriptor]) -> str:
    largest = max(layers, key=lambda layer: layer.size, default=None)
    return largest.compression if largest else "none"
