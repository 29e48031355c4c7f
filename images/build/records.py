"""Built images and their layers, and records that show which are up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import docker
from common.files import write_atomically
from common.paths import WORK
from images.build import push
from images.build.compressed_size import CompressedSize
from images.build.options import Options
from images.build.targets import BuildTarget
from images.labels import layer_names
from images.registry.oci import Manifest

BUILT = WORK / "built"


@dataclass(frozen=True)
class Layer:
    """One layer of a built image.

    `size` is in bytes: compressed for an image that was pushed, unpacked for one in the engine, and
    None for one of another architecture, which the engine keeps packed.
    """

    name: str
    digest: str
    size: int | None
    seconds: float


@dataclass(frozen=True)
class Built:
    """An image that was built; `sizes` is empty when its manifests are unknown."""

    tag: str
    digest: str
    layers: tuple[Layer, ...]
    sizes: tuple[CompressedSize, ...] = ()
    up_to_date: bool = False

    @property
    def size(self) -> int:
        return sum(layer.size or 0 for layer in self.layers)


def describe(
    target: BuildTarget,
    digest: str,
    manifests: Mapping[str, Manifest],
    seconds: Mapping[str, float],
) -> Built:
    """Describe the image just built. Its layers have the names and times of their stages; of an
    image pushed for several architectures, they are those of the first."""
    pushed = target.options.push
    digests, sizes = _packed_layers(manifests) if pushed else _local_layers(target.tag)
    own = target.layers
    layers = (
        Layer(name, digest, size, seconds.get(f"layer-{name}", 0.0))
        for name, digest, size in zip(layer_names(own, len(digests)), digests, sizes, strict=True)
    )
    compressed = (CompressedSize.of(arch, one, own) for arch, one in manifests.items())
    return Built(target.tag, digest, tuple(layers), tuple(compressed))


def _local_layers(tag: str) -> tuple[list[str], list[int | None]]:
    """Digests and sizes of the unpacked layers in the engine."""
    inspected = docker.output("image", "inspect", "--format", "{{json .RootFS.Layers}}", tag)
    digests: list[str] = json.loads(inspected) if inspected else []
    columns = "{{.Size}}\t{{.CreatedBy}}"
    history = docker.output("history", "--no-trunc", "--human=false", "--format", columns, tag)
    rows = [line.split("\t", 1) for line in reversed((history or "").splitlines())]
    made = ("ADD", "COPY", "RUN", "WORKDIR")
    filled = [int(size) for size, by in rows if size != "0" or by.startswith(made)]
    unknown: list[int | None] = [None] * len(digests)
    if not any(filled):  # an image that the engine has not unpacked, as of another architecture
        return digests, unknown
    return digests, [*unknown, *filled][-len(digests) :] if digests else []


def _packed_layers(manifests: Mapping[str, Manifest]) -> tuple[list[str], list[int]]:
    """Digests and sizes of the compressed layers."""
    first = next(iter(manifests.values()))
    layers = first.layers
    return [layer.digest for layer in layers], [layer.size for layer in layers]


def _record(target: BuildTarget) -> Path:
    options = target.options
    arches = "-".join(arch.name for arch in options.arches)
    tag = target.tag.replace("/", "_").replace(":", "_")
    where = f"registry.{options.compression}" if options.push else "engine"
    return BUILT / f"{tag}.{arches}.{where}.{options.builder or 'default'}.json"


def save(target: BuildTarget, fingerprints: Mapping[str, str], built: Built) -> None:
    """Record what a build made, and from which stages."""
    record = {
        "stages": dict(fingerprints),
        "digest": built.digest,
        "layers": [asdict(layer) for layer in built.layers],
        "sizes": [asdict(size) for size in built.sizes],
    }
    write_atomically(_record(target), json.dumps(record), parents=True)


def built_before(options: Options) -> set[str]:
    """The fingerprints of all stages that this builder built here."""
    records = BUILT.glob(f"*.{options.builder or 'default'}.json")
    return {value for path in records for value in _read(path).get("stages", {}).values()}


def _read(path: Path) -> dict[str, Any]:
    """A saved record; empty when it is broken or of another form."""
    try:
        record = json.loads(path.read_text())
        layers = tuple(Layer(**layer) for layer in record["layers"])
        sizes = tuple(CompressedSize(**size) for size in record["sizes"])
        image = record["stages"]["image"]
        return {**record, "layers": layers, "sizes": sizes, "image": image}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def up_to_date(target: BuildTarget, fingerprint: str) -> Built | None:
    """The image that an earlier run built from the same inputs, if its tag has not moved since.

    The tag is looked up in the registry after a push, else in the engine.
    """
    options = target.options
    if options.builder and not options.push:
        return None  # an image of another builder gets another digest when it is loaded
    record = _read(_record(target))
    if record.get("image") != fingerprint or not record.get("digest"):
        return None
    local = ("image", "inspect", "--format", "{{.Id}}", target.tag)
    found = (
        push.resolve(target.tag, options.mirrors.certificates)
        if options.push
        else docker.output(*local)
    )
    if found != record["digest"]:
        return None
    return Built(target.tag, record["digest"], record["layers"], record["sizes"], up_to_date=True)
