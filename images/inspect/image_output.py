"""What `invoke inspect` prints of an image: text for people, plain data for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from common.text import megabytes, short_size, table
from images.inspect.model import Image, Package, brief

NOT_READ = "not read (without --brief the layers are)"


def images_data(images: Iterable[Image]) -> list[dict[str, Any]]:
    return [
        {
            "reference": image.reference,
            "found_in": image.place,
            "digest": image.digest,
            "manifest": image.manifest,
            "platform": image.platform,
            "platforms": list(image.platforms),
            "pins": image.pins,
            "labels": dict(image.labels),
            "size": image.size,
            "unpacked": image.unpacked,
            "layers": [{**vars(layer), "shared": list(layer.shared)} for layer in image.layers],
            "python_packages": _packages_data(image.python_packages),
            "os_packages": _packages_data(image.os_packages),
            "environment": dict(image.environment),
            "roles": None if image.roles is None else list(image.roles),
            "recipes": None if image.recipes is None else list(image.recipes),
            "entrypoint": list(image.entrypoint),
            "command": list(image.command),
            "health": vars(image.health) if image.health else None,
            "stop_signal": image.stop_signal,
            "workdir": image.workdir,
            "user": image.user,
            "sboms": [{"kind": one.kind, "digest": one.digest} for one in image.sboms],
        }
        for image in images
    ]


def _packages_data(packages: Sequence[Package] | None) -> list[dict[str, str]] | None:
    return None if packages is None else [vars(package) for package in packages]


def images_text(images: Iterable[Image]) -> str:
    return "\n\n".join(_image(image) for image in images)


def _image(image: Image) -> str:
    head = {
        "found in": image.place,
        "digest": image.digest,
        "manifest": image.manifest,
        "platforms": ", ".join(image.platforms),
        "pins": ", ".join(f"{name} {version}" for name, version in image.pins.items()) or "none",
        "entrypoint": shlex.join(image.entrypoint) or "none",
        "command": shlex.join(image.command),
        "health": _health(image),
        "stops on": image.stop_signal,
        "directory": image.workdir,
        "user": image.user,
        "stand-in": image.labels.get("ascend.stand-in", ""),
        "sbom": ", ".join(f"{one.kind} {one.digest[:19]}" for one in image.sboms),
        "roles": NOT_READ if image.roles is None else ", ".join(image.roles) or "none",
        "recipes": NOT_READ if image.recipes is None else ", ".join(image.recipes) or "none",
    }
    parts = [
        image.title,
        table([(f"  {name}", value) for name, value in head.items() if value]),
        "",
        _layers(image),
        "",
        table([("  variable", "value"), *((f"  {n}", v) for n, v in image.environment.items())]),
        *_packages("Python", image.python_packages),
        *_packages("OS", image.os_packages),
    ]
    return "\n".join(parts)


def _layers(image: Image) -> str:
    rows = [("  layer", "compressed", "unpacked", "digest", "also in")]
    rows += [
        (
            f"  {layer.name}",
            short_size(layer.size),
            short_size(layer.unpacked),
            layer.digest[:19],
            ", ".join(map(brief, layer.shared)),
        )
        for layer in image.layers
    ]
    shared = sum(layer.size for layer in image.layers if layer.shared)
    rows.append(("  total", megabytes(image.size), megabytes(image.unpacked), "", ""))
    rows.append(("  shared", megabytes(shared), "", "", ""))
    return table(rows, right=(1, 2))


def _health(image: Image) -> str:
    health = image.health
    if health is None:
        return "none"
    return (
        f"{shlex.join(health.test)}, every {health.interval:g} s for at most {health.timeout:g} s; "
        f"{health.retries} failures count after {health.start_period:g} s"
    )


def _packages(kind: str, packages: Sequence[Package] | None) -> list[str]:
    if packages is None:
        return ["", f"  {kind} packages: {NOT_READ}"]
    if not packages:
        return ["", f"  {kind} packages: none"]
    rows = [(f"  {kind} package", "version", "layer")]
    rows += [(f"  {one.name}", one.version, one.layer) for one in packages]
    return ["", table(rows)]
