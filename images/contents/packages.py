"""The packages of an image: Python's from dist-info, the distribution's from its database."""

from __future__ import annotations

import io
import posixpath
import re
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from common.errors import EX_DATAERR, user_error
from images.contents.layers import Contents

DPKG, DPKG_PARTS = "var/lib/dpkg/status", "var/lib/dpkg/status.d/"
RPM = ("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite")
OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
RPM_TAGS = {1000: "name", 1001: "version", 1002: "release", 1003: "epoch", 1014: "license"}
RPM_TAGS |= {1022: "arch"}
# A view or a generated column could make endless rows of any size.
COMPUTED = re.compile(r"\b(AS|VIEW|VIRTUAL)\b", re.IGNORECASE)


@dataclass(frozen=True)
class PythonPackage:
    """A dist-info directory; `directory` is its parent."""

    name: str
    version: str
    directory: str
    layer: str
    metadata: Message = field(compare=False, repr=False)
    record: str = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class OsPackage:
    """An entry in dpkg's or rpm's database; `kind` is deb or rpm. Only rpm has a `license`."""

    kind: str
    name: str
    version: str
    arch: str
    layer: str
    source: str = ""
    license: str = ""


def wanted(path: str) -> bool:
    """Whether packages are read from this file."""
    if path == DPKG or path.startswith(DPKG_PARTS) or path in (*RPM, *OS_RELEASE):
        return True
    directory, _, name = path.rpartition("/")
    return name in ("METADATA", "RECORD") and directory.endswith(".dist-info")


def packages(contents: Contents) -> list[PythonPackage]:
    """Every dist-info of the image, sorted by name and directory."""
    found = []
    for path, content in contents.kept.items():
        place, _, name = path.rpartition("/")
        if name == "METADATA" and place.endswith(".dist-info"):
            metadata = HeaderParser().parsestr(content.decode("utf-8", "replace"))
            if not metadata.get("Name"):
                continue  # such as a package's test data
            record = contents.kept.get(f"{place}/RECORD", b"").decode("utf-8", "replace")
            found.append(
                PythonPackage(
                    str(metadata.get("Name", "")),
                    str(metadata.get("Version", "")),
                    posixpath.dirname(place),
                    contents.files[path].layer,
                    metadata,
                    record,
                )
            )
    return sorted(found, key=lambda one: (one.name.lower(), one.directory, one.version))


def importable(contents: Contents) -> list[PythonPackage]:
    """Packages that Python can import, without copies inside other packages."""
    places = ("site-packages", "dist-packages")
    return [one for one in packages(contents) if posixpath.basename(one.directory) in places]


def os_packages(contents: Contents) -> list[OsPackage]:
    """The distribution's packages: from dpkg, or from rpm if its database is SQLite.

    Raises UserError (65) for a database that cannot be read.
    """
    found: list[OsPackage] = []
    for path, content in contents.kept.items():
        layer = contents.files[path].layer
        if path == DPKG or path.startswith(DPKG_PARTS):
            found += _dpkg(content.decode("utf-8", "replace"), layer)
        elif path in RPM:
            found += _rpm(content, path, layer)
    return sorted(found, key=lambda one: (one.name, one.arch, one.version))


def _dpkg(status: str, layer: str) -> Iterator[OsPackage]:
    for paragraph in status.split("\n\n"):
        fields = HeaderParser().parsestr(paragraph.lstrip("\n"))
        state = fields.get("Status", "install ok installed").split()
        if fields.get("Package") and state[-1:] == ["installed"]:
            name, version = fields["Package"], fields.get("Version", "")
            source = next(iter(fields.get("Source", name).split()), name)
            yield OsPackage("deb", name, version, fields.get("Architecture", ""), layer, source)


def _rpm(database: bytes, path: str, layer: str) -> Iterator[OsPackage]:
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as scratch:
        Path(scratch.name).write_bytes(database)
        try:
            with closing(sqlite3.connect(f"file:{scratch.name}?immutable=1", uri=True)) as opened:
                (made,) = opened.execute("SELECT sql FROM sqlite_master WHERE name = 'Packages'")
                if COMPUTED.search(str(made[0])):
                    raise ValueError("its packages are computed")
                blobs = [row[0] for row in opened.execute("SELECT blob FROM Packages")]
            headers = [_rpm_header(blob) for blob in blobs]
        except (sqlite3.Error, struct.error, ValueError, IndexError, TypeError) as error:
            what = f"is not an rpm database: {error}"
            raise user_error(path, what, exit_code=EX_DATAERR) from None
    for header in headers:
        epoch = f"{header['epoch']}:" if header.get("epoch") else ""
        version = f"{epoch}{header['version']}-{header['release']}"
        if header["name"] != "gpg-pubkey":
            yield OsPackage(
                *("rpm", header["name"], version, header.get("arch", "noarch"), layer),
                license=header.get("license", ""),
            )


def _rpm_header(blob: bytes) -> dict[str, str]:
    """The tags needed of a header: two lengths, entries (tag, type, offset, count), data."""
    entries, _ = struct.unpack_from(">II", blob)
    data = io.BytesIO(blob[8 + 16 * entries :]).getbuffer()
    header = {}
    for number in range(entries):
        tag, kind, offset, _ = struct.unpack_from(">IIiI", blob, 8 + 16 * number)
        if tag in RPM_TAGS:
            if kind == 4:
                value = str(struct.unpack_from(">I", data, offset)[0])
            else:
                value = bytes(data[offset:]).partition(b"\0")[0].decode("utf-8", "replace")
            header[RPM_TAGS[tag]] = value
    missing = {"name", "version", "release"} - header.keys()
    if missing:
        raise ValueError(f"a header without {', '.join(sorted(missing))}")
    return header
