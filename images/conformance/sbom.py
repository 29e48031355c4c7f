"""Compare the packages that an SBOM lists with those in the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from packaging.utils import canonicalize_name

from common.errors import Finding
from images.attestations import sbom
from images.attestations.provenance import Statement
from images.contents.image import Image
from images.contents.packages import os_packages, packages
from images.labels import BASE_DIGEST


def problems(image: Image, statements: Iterable[Statement]) -> Iterator[Finding]:
    """Where an SBOM is invalid, is about another image, or lists other packages."""
    for statement in statements:
        document = statement.predicate
        if wrong := sbom.invalid(document):
            yield Finding("SBOM", f"is not CycloneDX 1.6: {wrong}")
            continue
        if (about := sbom.subject(document) or "no image") != image.manifest.digest:
            yield Finding("SBOM", f"is about {about}, not {image.manifest.digest}")
        base, labelled = sbom.base(document), image.labels.get(BASE_DIGEST, "")
        if base not in ("", labelled):
            yield Finding(f"SBOM: {BASE_DIGEST}", f"lists {base}, the label is '{labelled}'")
        yield from _packages(image, sbom.parts(document))


def _packages(image: Image, listed: dict[str, set[tuple[str, str]]]) -> Iterator[Finding]:
    for kind, inside in _inside(image).items():
        claimed_packages = listed.get(kind, set())
        for name in sorted({name for name, _ in claimed_packages ^ inside}):
            claimed = _versions(claimed_packages, name)
            real = _versions(inside, name)
            yield Finding(f"SBOM: {name}", f"lists {claimed}, the image has {real}")


def _inside(image: Image) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {"pypi": set(), "deb": set(), "rpm": set()}
    for one in packages(image.contents):
        found["pypi"].add((canonicalize_name(one.name), one.version))
    for package in os_packages(image.contents):
        found[package.kind].add((package.name, package.version))
    return found


def _versions(among: set[tuple[str, str]], name: str) -> str:
    return ", ".join(sorted(version for one, version in among if one == name)) or "nothing"
