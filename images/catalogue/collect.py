"""Collect the catalogue's images: this project's, in repositories, layouts and the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common import docker
from common.errors import EX_UNAVAILABLE, user_error
from common.terminal import Say
from images.build.engine import NAME, TAG
from images.inspect import reader, stores
from images.inspect.model import Image, shared
from images.names import REPOSITORY
from images.publish.publish import TEMPORARY
from images.registry.client import HttpRepository, Reference
from images.registry.oci import INDEXES, Layout, Manifest

LABEL = "ascend.platform"
CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)


def images(
    repositories: Sequence[str],
    layouts: Sequence[str],
    engine: bool,
    brief: bool,
    certificates: str,
    say: Say,
) -> list[Image]:
    """Every image with this project's labels. Raises UserError (64, 65, 69)."""
    if not (repositories or layouts or engine):
        fix = "--registry REGISTRY/NAME, --layout DIR or --engine"
        raise user_error("invoke site", "no source of images is given", fix)
    found: list[Image] = []
    for place, references in (
        (
            stores.REGISTRY,
            [one for name in repositories for one in _in_repository(name, certificates, say)],
        ),
        (stores.LAYOUT, [one for name in layouts for one in _in_layout(Path(name))]),
        (stores.ENGINE, _in_engine() if engine else []),
    ):
        if references:
            found += reader.read_images(
                references, at=place, brief=brief, certificates=certificates, say=say
            )
    ours = [replace(one, reference=_pulled(one)) for one in found if LABEL in one.labels]
    for other in dict.fromkeys(one.reference for one in found if LABEL not in one.labels):
        say(f"left out {other}: it has no label {LABEL}")
    if not ours:
        where = ", ".join([*repositories, *layouts, *(["the engine"] if engine else [])])
        raise user_error(where, "has no image of this project", "invoke publish", EX_UNAVAILABLE)
    return shared(ours)


def _in_repository(name: str, certificates: str, say: Say) -> Iterator[str]:
    at = Reference.parse(name, "--registry").repository
    repository = HttpRepository(at, certificates=certificates, say=say)
    for tag in repository.tags():
        if not TEMPORARY.fullmatch(tag) and _is_image(repository.manifest(tag)):
            yield f"{repository.name}:{tag}"


def _in_layout(directory: Path) -> Iterator[str]:
    store = stores.LayoutStore(Layout(directory))
    for tag in store.tags():
        if _is_image(store.manifest(tag)):
            yield f"{directory}:{tag}"


def _is_image(manifest: Manifest | None) -> bool:
    """Whether it can run: neither an SBOM nor a signature, which cosign stores with an image's
    configuration."""
    if manifest is None:
        return False
    if manifest.media_type in INDEXES:
        return bool(manifest.arches)
    config = (manifest.document.get("config") or {}).get("mediaType")
    return config in CONFIGS and all("tar" in one.media_type for one in manifest.layers)


def _in_engine() -> list[str]:
    form = ("--format", "{{.Repository}}:{{.Tag}}")
    answer = docker.run("images", "--filter", f"label={LABEL}", *form)
    if answer.returncode:
        raise docker.no_engine(answer.stderr)
    passing = f"/{NAME}:{TAG}"  # an image has this name while its manifests are read
    names = answer.stdout.splitlines()
    return sorted(one for one in names if "<none>" not in one and not one.endswith(passing))


def _pulled(image: Image) -> str:
    """What to write after `docker run`. A tag in a layout gets the name that builds use."""
    if image.place != stores.LAYOUT:
        return image.reference
    tag = stores.engine_name(stores.split_reference(image.reference)[1])
    return tag if ":" in tag else f"{REPOSITORY}:{tag}"
