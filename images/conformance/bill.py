"""The SBOM against what is inside, and what is inside against its own records."""

from __future__ import annotations

import base64
import csv
import json
import posixpath
from collections.abc import Iterable, Iterator

from packaging.utils import canonicalize_name

from common.errors import Finding
from images.attestations import sbom
from images.attestations.provenance import Statement
from images.contents.image import Image
from images.contents.packages import os_packages, packages
from images.labels import BASE_DIGEST

SHOWN = 3  # files of one package that are named
# Made or rewritten when the layer is: byte code, and the records themselves.
UNRECORDED = (".pyc", "/RECORD")


def problems(image: Image, statements: Iterable[Statement]) -> Iterator[Finding]:
    """Where a list of contents is wrong, about another image, or says other packages."""
    for statement in statements:
        text = json.dumps(statement.predicate)
        if wrong := sbom.invalid(text):
            yield Finding("SBOM", f"is no CycloneDX 1.6: {wrong}")
            continue
        if sbom.subject(text) != image.manifest.digest:
            about = sbom.subject(text) or "no image"
            yield Finding("SBOM", f"is about {about}, not {image.manifest.digest}")
        base, labelled = sbom.base(text), image.labels.get(BASE_DIGEST, "")
        if base not in ("", labelled):
            yield Finding(f"SBOM: {BASE_DIGEST}", f"lists {base}, the label is '{labelled}'")
        yield from _packages(image, sbom.parts(text))


def _packages(image: Image, listed: dict[str, set[tuple[str, str]]]) -> Iterator[Finding]:
    for kind, inside in _inside(image).items():
        told = listed.get(kind, set())
        for name in sorted({name for name, _ in told ^ inside}):
            said = _versions(told, name)
            real = _versions(inside, name)
            yield Finding(f"SBOM: {name}", f"lists {said}, inside is {real}")


def _inside(image: Image) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {"pypi": set(), "deb": set(), "rpm": set()}
    for one in packages(image.contents):
        found["pypi"].add((canonicalize_name(one.name), one.version))
    for package in os_packages(image.contents):
        found[package.kind].add((package.name, package.version))
    return found


def _versions(among: set[tuple[str, str]], name: str) -> str:
    return ", ".join(sorted(version for one, version in among if one == name)) or "nothing"


def records(image: Image) -> Iterator[Finding]:
    """Files that differ from RECORD, are missing, or that no RECORD knows, one line a package.

    Only in the site-packages that this project fills: what a base image brings is not ours to hold
    to its records.
    """
    files = image.contents.files
    known: set[str] = set()
    directories: set[str] = set()
    for package in packages(image.contents):
        ours = bool(sbom.SITE_PACKAGES.fullmatch(package.directory))
        changed, missing = [], []
        for path, sha256 in _recorded(package.directory, package.record):
            known.add(path)
            if not ours or path.endswith(UNRECORDED):
                continue
            if path not in files:
                missing.append(path)
            elif sha256 and files[path].sha256 != sha256:
                changed.append(path)
        if ours:
            directories.add(f"{package.directory}/")
            where = f"{package.name} {package.version}"
            if not package.record:
                yield Finding(where, "has no RECORD")
            if changed:
                yield Finding(where, f"differs from its RECORD: {_some(changed)}")
            if missing:
                yield Finding(where, f"lacks what its RECORD names: {_some(missing)}")
    strange = sorted(
        path
        for path, file in files.items()
        if path.startswith(tuple(directories))
        and file.kind != "directory"
        and path not in known
        and not path.endswith(UNRECORDED)
    )
    if strange:
        yield Finding("site-packages", f"files that no RECORD knows: {_some(strange)}")


def _recorded(directory: str, record: str) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 of each line; the hash is empty where RECORD has none."""
    for row in csv.reader(record.splitlines()):
        if row:
            algorithm, _, value = (row[1] if len(row) > 1 else "").partition("=")
            path = posixpath.normpath(posixpath.join(directory, row[0]))
            yield path, base64.urlsafe_b64decode(f"{value}=").hex() if algorithm == "sha256" else ""


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(f"/{path}" for path in paths[:SHOWN]) + more
