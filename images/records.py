"""What was built: its layers as the engine has them, and records that tell what is up to date."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from images.targets import WORK, Options, Target

BUILT = WORK / "built"


@dataclass(frozen=True)
class Layer:
    """One layer of a built image; bytes are uncompressed, as the engine reports them."""

    name: str
    digest: str
    size: int
    seconds: float


@dataclass(frozen=True)
class Built:
    """One image that was built."""

    tag: str
    digest: str
    size: int
    layers: tuple[Layer, ...]
    up_to_date: bool = False


def inspect(target: Target, digest: str, seconds: dict[str, float]) -> Built:
    """The layers as the engine has them; without a local copy, the digest alone."""
    history = _docker_lines(
        "history",
        "--no-trunc",
        "--human=false",
        "--format",
        "{{.Size}}\t{{.CreatedBy}}",
        target.tag,
    )
    inspected = _docker_lines("image", "inspect", "--format", "{{json .RootFS.Layers}}", target.tag)
    if not history or not inspected:
        return Built(target.tag, digest, 0, ())
    digests = json.loads(inspected[0])
    sized = [
        (int(size), created)
        for size, created in (line.split("\t", 1) for line in reversed(history))
    ]
    filled = [
        (size, created)
        for size, created in sized
        if created.startswith(("COPY", "RUN", "ADD")) or size
    ]
    filled = filled[-len(digests) :]
    own = list(_own_layers(target))
    names = [*(f"base {index + 1}" for index in range(len(filled) - len(own))), *own]
    layers = tuple(
        Layer(name, digest, size, seconds.get(f"layer-{name}", 0.0))
        for name, digest, (size, _) in zip(names, digests, filled, strict=False)
    )
    return Built(target.tag, digest, sum(layer.size for layer in layers), layers)


def _own_layers(target: Target) -> Iterable[str]:
    text = (WORK / "dockerfiles" / f"{target.name}.Dockerfile").read_text()
    _, _, image = text.partition("FROM base AS image")
    return (
        line.split("--from=layer-")[1].split()[0]
        for line in image.splitlines()
        if line.startswith("COPY")
    )


def _docker_lines(*arguments: str) -> list[str]:
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def _record(target: Target, options: Options) -> Path:
    arches = "-".join(arch.name for arch in options.arches)
    tag = target.tag.replace("/", "_").replace(":", "_")
    return BUILT / f"{tag}.{arches}.{options.builder or 'engine'}.json"


def remember(target: Target, prints: dict[str, str], built: Built, options: Options) -> None:
    path = _record(target, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    layers = [asdict(layer) for layer in built.layers]
    scratch.write_text(
        json.dumps({"stages": prints, "digest": built.digest, "size": built.size, "layers": layers})
    )
    scratch.replace(path)


def built_before(options: Options) -> set[str]:
    """The fingerprints of all stages that were built here with this builder."""
    records = (BUILT).glob(f"*.{options.builder or 'engine'}.json")
    return {value for path in records for value in json.loads(path.read_text())["stages"].values()}


def up_to_date(target: Target, fingerprint: str, options: Options) -> Built | None:
    """What an earlier run built from the same inputs, if the engine still has it under its tag."""
    path = _record(target, options)
    if options.push or options.builder or not path.is_file():
        return None
    record = json.loads(path.read_text())
    if record["stages"]["image"] != fingerprint or not record["digest"]:
        return None
    if _docker_lines("image", "inspect", "--format", "{{.Id}}", target.tag) != [record["digest"]]:
        return None
    layers = tuple(Layer(**layer) for layer in record["layers"])
    return Built(target.tag, record["digest"], record["size"], layers, up_to_date=True)
