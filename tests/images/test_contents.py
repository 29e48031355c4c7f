"""What is read of an image's layers, and that nothing is believed which its digest denies."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from images.contents import layers, packages
from images.contents.image import manifests
from images.contents.layers import Contents
from images.contents.packages import OsPackage
from images.registry.oci import Descriptor
from tests.images.hand_made import SITE, Layout
from tests.images.hand_made import package as bare
from tests.images.small_images import Small
from tests.images.small_registry import filled


def read(directory: Path, *parts: dict[str, Any], packed: str = "zstd") -> Contents:
    descriptor = Small(layers=list(parts), packed=packed).write(Layout(directory))
    registry = filled(directory)
    return layers.read(registry, registry.manifests[descriptor["digest"]], keep=packages.wanted)


@pytest.mark.parametrize("packed", ["zstd", "gzip", ""])
def test_layers_are_read_however_they_are_packed(tmp_path: Path, packed: str) -> None:
    found = read(tmp_path, {"a/b": "text", "a": None}, packed=packed)
    assert {path: file.kind for path, file in found.files.items()} == {
        "a": "directory",
        "a/b": "file",
    }
    config = next(p for p in (tmp_path / "blobs/sha256").iterdir() if b"diff_ids" in p.read_bytes())
    diff_ids = json.loads(config.read_text())["rootfs"]["diff_ids"]
    assert [layer.diff_id for layer in found.layers] == diff_ids


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ({"d/.wh.one": ""}, ["d/two", "e"]),
        ({".wh.d": ""}, ["e"]),
        ({"d/.wh..wh..opq": "", "d/three": "3"}, ["d/three", "e"]),
        ({"d": "a file where a directory was"}, ["d", "e"]),
        ({".wh..wh..opq": ""}, []),
        ({".wh.nothing": ""}, ["d/one", "d/two", "e"]),
    ],
)
def test_what_a_later_layer_takes_away(
    tmp_path: Path, upper: dict[str, str], left: list[str]
) -> None:
    found = read(tmp_path, {"d/one": "1", "d/two": "2", "e": "3"}, upper)
    assert sorted(path for path, file in found.files.items() if file.kind == "file") == left


PATHS = st.sampled_from(["a", "a/b", "a/b/c", "a-b", "a.b/c", "d", "d/e", "d/e/f"])


@given(
    st.lists(
        st.tuples(
            st.dictionaries(PATHS, st.sampled_from(["file", "directory"]), max_size=5),
            st.sets(PATHS, max_size=2),
            st.sets(st.one_of(PATHS, st.just("")), max_size=1),
        ),
        max_size=4,
    )
)
def test_what_a_container_sees_follows_from_the_layers_above_each_file(
    made: list[tuple[dict[str, str], set[str], set[str]]],
) -> None:
    several = [
        layers.Layer(
            *(str(number), "", 0, 0),
            {path: layers.File(path, kind, 0, 0, str(number)) for path, kind in files.items()},
            {path: str(number).encode() for path, kind in files.items() if kind == "file"},
            frozenset(removed),
            frozenset(emptied),
        )
        for number, (files, removed, emptied) in enumerate(made)
    ]
    wanted: dict[str, layers.File] = {}
    for one in several:
        gone = one.removed | {path for path, file in one.files.items() if file.kind == "file"}
        for path in list(wanted):
            parents = {str(parent) for parent in PurePosixPath(path).parents} - {"."} | {""}
            if path in one.removed or parents & (gone | one.emptied):
                del wanted[path]
        wanted |= one.files
    seen = layers.merged(several)
    assert seen.files == wanted
    assert seen.kept == {p: f.layer.encode() for p, f in wanted.items() if f.kind == "file"}


def test_a_package_that_a_later_layer_replaces_or_removes(tmp_path: Path) -> None:
    lower = {**bare("one", "1"), **bare("two", "1")}
    upper = {f"{SITE}/.wh.one-1.dist-info": "", **bare("one", "2"), f"{SITE}/two-1.dist-info": "x"}
    found = packages.packages(read(tmp_path, lower, upper))
    assert [(one.name, one.version) for one in found] == [("one", "2")]


def test_every_damaged_layer_is_named(tmp_path: Path) -> None:
    descriptor = Small(layers=[{"a": "1"}, {"b": "2"}, {"c": "3"}]).write(Layout(tmp_path))
    registry = filled(tmp_path)
    manifest = registry.manifests[descriptor["digest"]]
    digests = [layer["digest"] for layer in manifest.document["layers"]]
    registry.blobs[digests[0]] = b"no layer at all"
    registry.blobs[digests[1]] = registry.blobs[digests[2]]
    with pytest.raises(UserError) as refused:
        layers.read(registry, manifest, keep=packages.wanted)
    said = "\n".join(map(str, refused.value.findings))
    assert refused.value.exit_code == 65
    assert f"layer {digests[0][:19]}: is not a layer" in said
    assert f"layer {digests[1][:19]}: the content has another digest, {digests[2]}" in said
    assert digests[2][:19] not in said.replace(digests[2], "")


def test_a_layer_that_ends_in_the_middle(tmp_path: Path) -> None:
    descriptor = Small(layers=[{"a": "1" * 50_000}]).write(Layout(tmp_path))
    registry = filled(tmp_path)
    manifest = registry.manifests[descriptor["digest"]]
    digest = manifest.document["layers"][0]["digest"]
    registry.blobs[digest] = registry.blobs[digest][:-9]
    with pytest.raises(UserError, match=digest[:19]):
        layers.read(registry, manifest, keep=packages.wanted)


def test_visit_sees_what_a_later_layer_removes_and_large_files_without_content(
    tmp_path: Path,
) -> None:
    made = [{"secret": "s", "large": "l" * 100}, {".wh.secret": ""}]
    descriptor = Small(layers=made).write(Layout(tmp_path))
    registry = filled(tmp_path)
    seen: dict[str, bytes | None] = {}
    layers.read(
        registry,
        registry.manifests[descriptor["digest"]],
        keep=packages.wanted,
        visit=lambda file, content: seen.update({file.path: content}),
        small=10,
    )
    assert seen == {"secret": b"s", "large": None}


def test_a_hard_link_has_the_content_of_what_it_links_to(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("./one")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("two")
        link.type, link.linkname = tarfile.LNKTYPE, "./one"
        tar.addfile(link)
    layout = Layout(tmp_path)
    raw = layout.blob(out.getvalue(), "application/vnd.oci.image.layer.v1.tar")
    descriptor = Descriptor.of(raw)
    found = layers.layer(filled(tmp_path), descriptor, keep=packages.wanted)
    assert found.files["two"].kind == "hardlink"
    assert found.files["two"].sha256 == found.files["one"].sha256 != ""


def test_the_packages_of_dpkg(tmp_path: Path) -> None:
    found = packages.os_packages(read(tmp_path, Small().layers[0]))
    layer = found[0].layer
    assert found == [OsPackage("deb", "libc6", "2.35-0ubuntu3", "arm64", layer, "glibc")]


def header(**values: str | int) -> bytes:
    """An entry of rpm's database: numbers of tags, and their values behind one another."""
    tags = {name: tag for tag, name in packages.RPM_TAGS.items()}
    entries, data = b"", b""
    for name, value in values.items():
        if isinstance(value, int):
            data += b"\0" * (-len(data) % 4)
            entries += struct.pack(">IIiI", tags[name], 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            entries += struct.pack(">IIiI", tags[name], 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(values), len(data)) + entries + data


def rpm_database(directory: Path, *headers: bytes) -> bytes:
    path = directory / "rpmdb.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        rows = [(one,) for one in headers]
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", rows)
    database.close()
    return path.read_bytes()


def test_the_packages_of_rpm(tmp_path: Path) -> None:
    database = rpm_database(
        tmp_path,
        header(
            name="glibc", version="2.38", release="29.oe2403", license="LGPLv2+", arch="aarch64"
        ),
        header(name="shadow", version="4.14", release="3", epoch=2, license="BSD", arch="aarch64"),
        header(name="gpg-pubkey", version="b25e7f66", release="5c4d2bca"),
    )
    found = packages.os_packages(
        read(tmp_path / "image", {"usr/lib/sysimage/rpm/rpmdb.sqlite": database})
    )
    assert [(one.kind, one.name, one.version, one.arch, one.license) for one in found] == [
        ("rpm", "glibc", "2.38-29.oe2403", "aarch64", "LGPLv2+"),
        ("rpm", "shadow", "2:4.14-3", "aarch64", "BSD"),
    ]


@pytest.mark.parametrize("database", [b"no database", b"SQLite format 3\0" + bytes(200)])
def test_a_broken_database_of_rpm(tmp_path: Path, database: bytes) -> None:
    found = read(tmp_path, {"var/lib/rpm/rpmdb.sqlite": database})
    with pytest.raises(UserError, match=r"rpmdb\.sqlite: is not an rpm database"):
        packages.os_packages(found)


ENDLESS = "WITH RECURSIVE n(blob) AS (SELECT 1 UNION ALL SELECT blob + 1 FROM n)"


@pytest.mark.parametrize(
    "schema",
    [
        f"CREATE VIEW Packages AS {ENDLESS} SELECT zeroblob(1000000000) AS blob FROM n",
        "CREATE TABLE Packages (n INTEGER, blob BLOB AS (zeroblob(1000000000)))",
        "CREATE TABLE Packages (blob TEXT DEFAULT 'x'); INSERT INTO Packages VALUES ('text')",
        "CREATE TABLE Packages (blob BLOB); INSERT INTO Packages VALUES (NULL)",
        "CREATE TABLE Other (blob BLOB)",
    ],
)
def test_a_hostile_database_of_rpm(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "rpmdb.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(f"{schema}; CREATE TABLE x (y); INSERT INTO x VALUES (1);")
    database.close()
    found = read(tmp_path / "image", {"var/lib/rpm/rpmdb.sqlite": path.read_bytes()})
    with pytest.raises(UserError, match=r"rpmdb\.sqlite: is not an rpm database"):
        packages.os_packages(found)


def test_an_index_that_lacks_an_architecture(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    index = layout.index([Small().write(layout)])
    registry = filled(tmp_path)
    root = registry.manifests[index["digest"]]
    assert list(manifests(registry, root)) == ["arm64"]
    with pytest.raises(UserError, match="manifest of amd64: is missing"):
        manifests(registry, root, ["arm64", "amd64"])
