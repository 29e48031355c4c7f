"""The data of the catalogue's pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from entrypoints.inputs.roles import ROLES, Role
from images.catalogue import commands, picture
from images.catalogue.picture import Bar, Block
from images.inspect.model import Image, Layer, Package, shared
from images.labels import RELEASE
from images.matrix import Matrix

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Attached:
    """An SBOM as a file of the catalogue."""

    kind: str
    path: str
    content: bytes


@dataclass(frozen=True)
class Page:
    """One image with all its tags; `others` are drawn with it in its picture."""

    image: Image
    references: tuple[str, ...]
    name: str
    others: tuple[Image, ...]
    siblings: Mapping[str, str]  # platform → page of the same tag

    @property
    def path(self) -> str:
        return f"images/{self.name}.html"

    @property
    def tag(self) -> str:
        return self.references[0].rpartition("/")[2]

    @property
    def release(self) -> str:
        return _release(self.image)

    @property
    def platform(self) -> str:
        return self.image.labels.get("ascend.platform", UNKNOWN)

    @property
    def os(self) -> str:
        return self.image.labels.get("ascend.os", UNKNOWN)

    @property
    def stand_in(self) -> str:
        return self.image.labels.get("ascend.stand-in", "")

    @cached_property
    def bars(self) -> list[Bar]:
        """This page's image first."""
        return picture.bars([self.image, *self.others])

    @property
    def layers(self) -> list[tuple[Layer, Block]]:
        """The layers from the bottom up, each with its block of the picture."""
        return list(zip(self.image.layers, self.bars[0].blocks, strict=True))

    @property
    def packages(self) -> list[tuple[str, str, Sequence[Package] | None]]:
        return [
            ("Python packages", "python-packages", self.image.python_packages),
            ("OS packages", "os-packages", self.image.os_packages),
        ]

    @property
    def sboms(self) -> list[Attached]:
        return [
            Attached(one.kind, f"sbom/{self.name}{f'-{n}' if n else ''}.json", one.content)
            for n, one in enumerate(self.image.sboms)
        ]

    @cached_property
    def function(self) -> str:
        return commands.function(self.image)

    @cached_property
    def deployments(self) -> list[commands.Deployment]:
        return commands.deployments(self.image)

    @property
    def roles(self) -> list[Role]:
        return [role for name, role in ROLES.items() if name in (self.image.roles or ())]


@dataclass(frozen=True)
class Release:
    """The images of one release, in the order of the matrix."""

    name: str
    pages: tuple[Page, ...]

    @cached_property
    def bars(self) -> list[Bar]:
        return picture.bars([page.image for page in self.pages])


def releases(matrix: Matrix, images: Iterable[Image]) -> list[Release]:
    """The catalogue of `images`: newest release first, platforms in the order of the matrix."""
    in_order = sorted(images, key=lambda one: (one.reference, one.platform))
    pages = _pages(shared(in_order))
    names = list(matrix.releases)
    order = sorted({page.release for page in pages}, key=lambda name: (-_at(names, name), name))
    return [
        Release(name, tuple(page for page in _ordered(matrix, pages) if page.release == name))
        for name in order
    ]


def platforms(matrix: Matrix, found: Iterable[Release]) -> list[dict[str, str]]:
    """The columns of the index: the platforms of the matrix, then unknown ones."""
    have = dict.fromkeys(page.platform for release in found for page in release.pages)
    all_known = [*matrix.platforms.values(), matrix.cpu.platform]
    known = [{"name": one.name, "title": one.title} for one in all_known]
    others = sorted(have.keys() - {one.name for one in all_known})
    return [*(one for one in known if one["name"] in have),
            *({"name": name, "title": name} for name in others)]  # fmt: skip


def _pages(images: Sequence[Image]) -> list[Page]:
    by_manifest: dict[str, list[Image]] = {}
    for image in images:
        by_manifest.setdefault(image.manifest, []).append(image)
    first = {manifest: same[0] for manifest, same in by_manifest.items()}
    names = _names(first)
    return [
        Page(
            image,
            tuple(dict.fromkeys(one.reference for one in by_manifest[manifest])),
            names[manifest],
            tuple(
                other
                for key, other in first.items()
                if key != manifest and _release(other) == _release(image)
            ),
            {
                other.platform: f"images/{names[key]}.html"
                for key, other in first.items()
                if key != manifest and other.digest == image.digest
            },
        )
        for manifest, image in first.items()
    ]


def _names(images: Mapping[str, Image]) -> dict[str, str]:
    """Descriptive file names; those that would collide get a part of the digest."""
    plain = {
        manifest: re.sub(r"[^\w.-]+", "_", f"{one.reference}-{one.arch}")
        for manifest, one in images.items()
    }
    return {
        manifest: name if list(plain.values()).count(name) == 1 else f"{name}-{manifest[7:15]}"
        for manifest, name in plain.items()
    }


def _release(image: Image) -> str:
    return image.labels.get(RELEASE, UNKNOWN)


def _ordered(matrix: Matrix, pages: Iterable[Page]) -> list[Page]:
    return sorted(
        pages,
        key=lambda page: (
            _at(list(matrix.platforms), page.platform),
            _at(list(matrix.oses), page.os),
            _at(list(matrix.arches), page.image.arch),
            page.references,
        ),
    )


def _at(names: Sequence[str], name: str) -> int:
    """The position of a name; unknown names come last."""
    return names.index(name) if name in names else len(names)
