"""An inspected image: one architecture under one tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from images.build.budgets import Key
from images.build.compressed_size import main_compression
from images.labels import BASE, PIN, RELEASE
from images.matrix import CPU
from images.registry.oci import Descriptor


@dataclass(frozen=True)
class Layer:
    """`size`: compressed bytes, `unpacked`: bytes on disk; None where it was not read.

    `shared` are the other images that have this very layer.
    """

    name: str
    digest: str
    diff_id: str
    media_type: str
    size: int
    unpacked: int | None = None
    shared: tuple[str, ...] = ()

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, self.size)


@dataclass(frozen=True)
class Package:
    """A Python or an OS package and the name of the layer that holds it."""

    name: str
    version: str
    layer: str


@dataclass(frozen=True)
class Health:
    """HEALTHCHECK; times in seconds."""

    test: tuple[str, ...]
    interval: float
    timeout: float
    start_period: float
    retries: int


@dataclass(frozen=True)
class Sbom:
    """A list of contents that is attached to the image."""

    kind: str
    digest: str
    content: bytes


@dataclass(frozen=True)
class Image:
    """`place` is where it was found: layout, engine or registry.

    `digest` is what the tag names, `manifest` this architecture's part of it. Packages, roles and
    recipes are None where the layers were not read.
    """

    reference: str
    place: str
    digest: str
    manifest: str
    platform: str
    platforms: tuple[str, ...]
    labels: Mapping[str, str]
    layers: tuple[Layer, ...]
    environment: Mapping[str, str]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: Health | None = None
    stop_signal: str = ""
    workdir: str = ""
    user: str = ""
    python_packages: tuple[Package, ...] | None = None
    os_packages: tuple[Package, ...] | None = None
    roles: tuple[str, ...] | None = None
    recipes: Mapping[str, str] | None = None
    sboms: tuple[Sbom, ...] = field(default=())

    @property
    def arch(self) -> str:
        return self.platform.partition("/")[2]

    @property
    def title(self) -> str:
        """The image under its tag, with its architecture."""
        return f"{self.reference} ({self.platform})"

    @property
    def pins(self) -> dict[str, str]:
        return {
            name.removeprefix(PIN): value
            for name, value in self.labels.items()
            if name.startswith(PIN)
        }

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def layer_sizes(self) -> dict[str, int]:
        """Layer → compressed bytes."""
        return {layer.name: layer.size for layer in self.layers}

    @property
    def unpacked(self) -> int | None:
        sizes = [layer.unpacked for layer in self.layers]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def budget_key(self) -> Key:
        label = self.labels.get
        platform = label("ascend.platform", "")
        return Key(
            release=f"{CPU}-{label(f'{PIN}vllm', '')}" if platform == CPU else label(RELEASE, ""),
            platform=platform,
            os=label("ascend.os", ""),
            arch=self.arch,
            base=label(BASE, ""),
            compression=main_compression([layer.descriptor for layer in self.layers]),
        )


def shared(images: Sequence[Image], others: Sequence[Image] = ()) -> list[Image]:
    """The images, each layer with the titles of the other images that have it."""
    owners: dict[str, dict[str, None]] = {}
    for image in (*images, *others):
        for layer in image.layers:
            owners.setdefault(layer.digest, {})[image.title] = None

    def marked(image: Image, layer: Layer) -> Layer:
        return replace(
            layer, shared=tuple(one for one in owners[layer.digest] if one != image.title)
        )

    return [
        replace(image, layers=tuple(marked(image, layer) for layer in image.layers))
        for image in images
    ]


def brief(title: str) -> str:
    """A title without registry and namespace."""
    reference, space, platform = title.partition(" ")
    return reference.rpartition("/")[2] + space + platform
