"""The compressed size of an image, layer by layer, as its manifest states it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from images.labels import layer_names
from images.registry.oci import Descriptor, Manifest


@dataclass(frozen=True)
class CompressedSize:
    """One architecture: layer → compressed bytes, from the bottom up.

    `compression` is that of the largest layer, as a base may have another.
    """

    arch: str
    compression: str
    layers: Mapping[str, int]

    @classmethod
    def of(cls, arch: str, manifest: Manifest, own: Sequence[str]) -> CompressedSize:
        """`own` names our layers, which are on top of the base's."""
        layers = manifest.layers
        names = layer_names(own, len(layers))
        sizes = {name: layer.size for name, layer in zip(names, layers, strict=True)}
        return cls(arch, main_compression(layers), sizes)

    @property
    def total(self) -> int:
        return sum(self.layers.values())


def main_compression(layers: Sequence[Descriptor]) -> str:
    """The compression of the largest layer; `none` without layers."""
    largest = max(layers, key=lambda layer: layer.size, default=None)
    return largest.compression if largest else "none"
