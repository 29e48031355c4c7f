"""Compare the files of an image with the RECORD of each Python package."""

from __future__ import annotations

import base64
import csv
import posixpath
from collections.abc import Iterator

from common.errors import EX_DATAERR, Finding, user_error
from images.attestations.sbom import SITE_PACKAGES
from images.contents.image import Image
from images.contents.packages import packages

SHOWN = 3  # files of one package that are named
# Made or rewritten when the layer is: byte code, and the records themselves.
UNRECORDED = (".pyc", "/RECORD")


def problems(image: Image) -> Iterator[Finding]:
    """Files that differ from RECORD, are missing, or are in no RECORD; one finding a package.

    Only in this project's site-packages: the base image's packages are not ours.
    """
    files = image.contents.files
    known: set[str] = set()
    directories: set[str] = set()
    for package in packages(image.contents):
        ours = bool(SITE_PACKAGES.fullmatch(package.directory))
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
        yield Finding("site-packages", f"files that no RECORD lists: {_some(strange)}")


def _recorded(directory: str, record: str) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 of each line; the hash is empty if RECORD has none.

    Raises UserError (65).
    """
    try:
        rows = [row for row in csv.reader(record.splitlines()) if row]
    except csv.Error as error:
        raise user_error(f"RECORD in {directory}", str(error), exit_code=EX_DATAERR) from None
    for row in rows:
        algorithm, _, value = (row[1] if len(row) > 1 else "").partition("=")
        path = posixpath.normpath(posixpath.join(directory, row[0]))
        yield path, _hex(value) if algorithm == "sha256" else ""


def _hex(digest: str) -> str:
    """What is not base64 stays as it is: no file has that digest."""
    try:
        return base64.urlsafe_b64decode(f"{digest}=").hex()
    except ValueError:
        return digest


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(f"/{path}" for path in paths[:SHOWN]) + more
