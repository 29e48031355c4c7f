"""Read images: manifest and configuration, and the contents of their layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError, user_error
from common.terminal import Say
from images.contents import cache, packages, project_files
from images.contents.image import config as read_config
from images.contents.layers import Layer as Content
from images.contents.layers import merged
from images.inspect import attached
from images.inspect.model import Health, Image, Layer, Package, shared
from images.inspect.stores import LocatedImage, open_images
from images.labels import LAYERS, layer_names
from images.registry.oci import Descriptor, Manifest

NANOSECONDS = 1_000_000_000


def read_images(references: Sequence[str], **options: Any) -> list[Image]:
    """Every architecture of `references`, with the options of `read_and_compare`."""
    return read_and_compare([], references, **options)[1]


def read_and_compare(
    before: Sequence[str],
    references: Sequence[str],
    *,
    arches: Sequence[str] = (),
    at: str = "",
    brief: bool = False,
    beside: Sequence[str] = (),
    certificates: str = "",
    say: Say,
) -> tuple[list[Image], list[Image]]:
    """Read the images of `before` and of `references`, and mark the layers that they share.

    Images of `beside` count for sharing too; only their manifests are read. `brief` reads only the
    manifests of all images. Raises UserError (64, 65, 69).
    """
    with open_images([*before, *references, *beside], at, certificates, say) as found:
        read = partial(_images, arches=arches, brief=brief, say=say)
        old = [image for one in found[: len(before)] for image in read(one)]
        rest = found[len(before) :]
        new = [image for one in rest[: len(references)] for image in read(one)]
        others = [
            image
            for one in rest[len(references) :]
            for image in _images(one, arches=(), brief=True, say=say)
        ]
    marked = shared([*old, *new], others)
    return marked[: len(old)], marked[len(old) :]


def _images(found: LocatedImage, *, arches: Sequence[str], brief: bool, say: Say) -> list[Image]:
    top = found.store.manifest(found.key)
    if top is None:  # it was there a moment ago
        raise user_error(found.reference, "is gone", "", EX_UNAVAILABLE)
    manifests = [top]
    if top.is_index:
        # The engine lists architectures that it has not pulled.
        there = [found.store.manifest(digest) for digest in top.arches.values()]
        manifests = [one for one in there if one is not None]
    if not manifests:
        raise user_error(found.reference, "is an index without images", "", EX_DATAERR)
    configs = [read_config(found.store, one) for one in manifests]
    platforms = tuple(f"{one['os']}/{one['architecture']}" for one in configs)
    have = [one["architecture"] for one in configs]
    missing = [arch for arch in arches if arch not in have]
    if missing:
        fix = f"it has {', '.join(have)}"
        raise UserError([Finding(found.reference, f"has no {arch} image", fix) for arch in missing])
    return [
        _image(found, top, manifest, config, platforms, brief, say)
        for manifest, config in zip(manifests, configs, strict=True)
        if config["architecture"] in (arches or have)
    ]


def _image(
    found: LocatedImage,
    top: Manifest,
    manifest: Manifest,
    config: Mapping[str, Any],
    platforms: tuple[str, ...],
    brief: bool,
    say: Say,
) -> Image:
    settings = config.get("config") or {}
    labels = settings.get("Labels") or {}
    descriptors = manifest.layers
    diff_ids = config.get("rootfs", {}).get("diff_ids") or []
    if len(diff_ids) != len(descriptors):
        what = f"has {len(descriptors)} layers, its configuration names {len(diff_ids)}"
        raise user_error(found.reference, what, "build it again", EX_DATAERR)
    known = cache.cached_layers(descriptors) if brief else [*_read(found, descriptors, say)]
    names = layer_names(labels.get(LAYERS, "").split(), len(descriptors))
    by_digest = {one.digest: name for name, one in zip(names, descriptors, strict=True)}
    read = [one for one in known if one is not None]
    contents = merged(read) if len(read) == len(known) else None

    def listed(found: Iterable[packages.PythonPackage | packages.OsPackage]) -> tuple[Package, ...]:
        return tuple(Package(one.name, one.version, by_digest[one.layer]) for one in found)

    return Image(
        reference=found.reference,
        place=found.place,
        digest=top.digest,
        manifest=manifest.digest,
        platform=f"{config['os']}/{config['architecture']}",
        platforms=platforms,
        labels=dict(sorted(labels.items())),
        layers=tuple(
            Layer(name, one.digest, diff_id, one.media_type, one.size,
                  content.unpacked if content else None)
            for name, one, diff_id, content in zip(names, descriptors, diff_ids, known, strict=True)
        ),
        environment=dict(one.split("=", 1) for one in settings.get("Env") or []),
        entrypoint=tuple(settings.get("Entrypoint") or ()),
        command=tuple(settings.get("Cmd") or ()),
        health=_health(settings.get("Healthcheck") or {}),
        stop_signal=settings.get("StopSignal") or "",
        workdir=settings.get("WorkingDir") or "",
        user=settings.get("User") or "",
        python_packages=listed(packages.importable(contents)) if contents else None,
        os_packages=listed(packages.os_packages(contents)) if contents else None,
        roles=project_files.roles(contents) if contents else None,
        recipes=project_files.recipes(contents) if contents else None,
        sboms=tuple(attached.sboms(found.store, top, manifest)),
    )  # fmt: skip


def _read(found: LocatedImage, descriptors: Sequence[Descriptor], say: Say) -> list[Content]:
    def tell(count: int, megabytes: float) -> None:
        say(f"reading {count} layers of {found.reference}, {megabytes:,.1f} MB")

    return cache.read(found.store, descriptors, tell)


def _health(raw: Mapping[str, Any]) -> Health | None:
    test = raw.get("Test") or []
    if not test or test == ["NONE"]:
        return None
    words = test[1:] if test[0] in ("CMD", "CMD-SHELL") else test
    interval, timeout, start = (
        raw.get(name, 0) / NANOSECONDS for name in ("Interval", "Timeout", "StartPeriod")
    )
    return Health(tuple(words), interval, timeout, start, raw.get("Retries", 0))
