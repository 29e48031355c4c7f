"""What is read of an image that somebody else made has limits, by kind of document and file."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from common.errors import UserError
from images.attestations.provenance import buildkit
from images.contents import image as images
from images.contents import layers, packages, project_files
from images.contents.layers import Layer
from images.inspect import attached
from images.inspect.stores import LayoutStore
from images.registry import documents, limits, oci
from images.registry.oci import Descriptor, Manifest
from tests.images.hand_made import SITE, Layout
from tests.images.small_images import Small, attestation
from tests.images.small_registry import filled

HUGE = 6_000_000_000
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ROOM = b"\0" * 6_000_000  # what is there of something huge: more than is read of it


def wanted(path: str) -> bool:
    return project_files.wanted(path) or packages.wanted(path)


def read(directory: Path, tar: bytes) -> Layer:
    made = Layout(directory).blob(gzip.compress(tar, 1), GZIP)
    return layers.layer(filled(directory), Descriptor.of(made), keep=wanted)


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An entry's header alone."""
    made = tarfile.TarInfo(name)
    made.size, made.type = size, kind
    return made.tobuf(tarfile.GNU_FORMAT)


def refused(directory: Path, tar: bytes) -> str:
    with pytest.raises(UserError) as raised:
        read(directory, tar)
    assert raised.value.exit_code == 65
    (finding,) = raised.value.findings
    assert finding.where.startswith("layer sha256:")
    return str(finding)


@pytest.mark.parametrize(
    "path",
    [
        "etc/os-release",
        "usr/lib/os-release",
        f"{SITE}/x-1.dist-info/METADATA",
        f"{SITE}/x-1.dist-info/RECORD",
        "var/lib/dpkg/status",
        "var/lib/dpkg/status.d/x",
        "var/lib/rpm/rpmdb.sqlite",
        "opt/ascend/env/recipes/x.yaml",
        "opt/ascend/env/roles.yaml",
    ],
)
def test_a_huge_file_that_would_be_kept(tmp_path: Path, path: str) -> None:
    assert wanted(path)
    limit = limits.of_file(path)
    assert f"{path} has {limit + 1:,} bytes, the limit for such a file is {limit:,}" in refused(
        tmp_path, entry(path, limit + 1) + ROOM
    )
    said = refused(tmp_path, entry(path, HUGE) + ROOM)
    assert f"{path} has {HUGE:,} bytes" in said


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
)
@pytest.mark.parametrize("before", [b"", entry("a", 3) + b"abc".ljust(512, b"\0")])
def test_a_huge_header(tmp_path: Path, kind: bytes, before: bytes) -> None:
    said = refused(tmp_path, before + entry("x", HUGE, kind) + ROOM)
    assert "the header of an entry has more than 4,194,304 bytes" in said


def test_a_sparse_file_without_end(tmp_path: Path) -> None:
    head = bytearray(entry("s", 0, tarfile.GNUTYPE_SPARSE))
    head[482] = 1  # more follows
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more = bytearray(512)
    more[:24] = b"00000000001\x0000000000001\0"
    more[504] = 1
    assert "the header of an entry" in refused(tmp_path, bytes(head) + bytes(more) * 20_000)


def test_more_than_a_layer_unpacks_to(tmp_path: Path) -> None:
    said = refused(tmp_path, entry("opt/any", HUGE) + ROOM)
    assert "unpacks to more than 268,435,456 bytes" in said


def test_names_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.table()["layers"], "memory", {"bytes": 100_000})
    tar = b"".join(entry(f"{{d}}/{number}") for number in range(2000))
    assert "needs more than 100,000 bytes of memory" in refused(tmp_path, tar)


@pytest.mark.parametrize("name", ["d/{}", "d/.wh.{}", "same", "/"])
def test_entries_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(limits.table()["layers"], "entries", {"count": 1000})
    tar = b"".join(entry(name.format(number)) for number in range(1001))
    assert "has more than 1,000 entries" in refused(tmp_path, tar)


def test_a_path_that_no_system_opens(tmp_path: Path) -> None:
    name = b"n/" * 4096
    tar = entry("long", len(name), tarfile.GNUTYPE_LONGNAME) + name + entry("n", 0)
    assert "has a path of 8,191 characters, the limit is 4,096" in refused(tmp_path, tar)


def test_layers_that_need_too_much_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small(layers=[{f"d/{n}/{i}": "" for i in range(100)} for n in range(5)])
    descriptor = small.write(Layout(tmp_path))
    registry = filled(tmp_path)
    manifest = registry.manifests[descriptor["digest"]]
    monkeypatch.setitem(limits.table()["layers"], "memory", {"bytes": 100_000})
    with pytest.raises(UserError, match="needs more than") as raised:
        layers.read(registry, manifest, keep=wanted)
    assert raised.value.exit_code == 65


def test_what_is_within_the_limits_is_read(tmp_path: Path) -> None:
    name = "n" * 4000
    content = b"x" * 400_000
    tar = entry("long", len(name), tarfile.GNUTYPE_LONGNAME) + name.encode().ljust(4096, b"\0")
    tar += entry("n", 0) + entry("large", len(content)) + content.ljust(400_384, b"\0")
    found = read(tmp_path, tar + bytes(1024)).files
    assert {path: file.size for path, file in found.items()} == {name: 0, "large": 400_000}


# ---- documents -----------------------------------------------------------------------------------


def test_a_huge_configuration(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    config = layout.blob(b" " * 9_000_000, "application/vnd.oci.image.config.v1+json")
    manifest = Manifest.made({"mediaType": "x", "config": config, "layers": []})
    with pytest.raises(UserError, match="the limit for a configuration") as raised:
        images.config(filled(tmp_path), manifest)
    assert raised.value.exit_code == 65
    assert config["digest"][:19] in str(raised.value)


def test_statements_that_are_huge_together(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    image = Small().write(layout)
    padding = "x" * (limits.of_document("statement") // 3)
    beside = [attestation(layout, image, about=f"sha256:{n}{padding}") for n in range(4)]
    root = layout.index([image, *beside])
    registry = filled(tmp_path)
    with pytest.raises(UserError, match="the limit for a statement") as raised:
        buildkit(registry, registry.manifests[root["digest"]])
    assert raised.value.exit_code == 65


def test_a_huge_list_of_contents_that_calls_itself_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits.table()["documents"], "list of contents", {"bytes": 1000})
    layout = Layout(tmp_path)
    image = Small().write(layout)
    kind = "application/spdx+json"
    about = {key: image[key] for key in ("mediaType", "digest", "size")}
    listed = {**layout.blob(b" " * 2000, kind), "size": 10}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.blob(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [listed],
        "subject": about,
    }
    layout.tag("made", image)
    layout.tag("sbom", layout.json(manifest, str(manifest["mediaType"])))
    store = LayoutStore(oci.Layout(tmp_path))
    subject = store.manifest("made")
    assert subject
    with pytest.raises(UserError, match="the limit for a list of contents") as raised:
        list(attached.sboms(store, subject))
    assert raised.value.exit_code == 65


def test_a_huge_manifest_in_a_layout(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    huge = layout.blob(b'{"mediaType": "x"}' + b" " * 5_000_000, "x")
    with pytest.raises(UserError, match="the limit for a manifest"):
        oci.Layout(tmp_path).manifest(huge["digest"])
    (tmp_path / "index.json").write_bytes(b" " * 5_000_000)
    with pytest.raises(UserError, match="the limit for an index of a layout"):
        LayoutStore(oci.Layout(tmp_path)).tags()


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../secret", "sha256:", "sha512:../secret", "../secret", f"sha256:{'A' * 64}"],
)
def test_a_digest_that_leads_out_of_a_layout(tmp_path: Path, digest: str) -> None:
    (tmp_path / "secret").write_text(json.dumps({"mediaType": "x", "layers": []}))
    Layout(tmp_path / "layout")
    store = LayoutStore(oci.Layout(tmp_path / "layout"))
    (tmp_path / "layout" / "index.json").write_text(
        json.dumps({"manifests": [{"mediaType": "x", "digest": digest, "size": 1}]})
    )
    with pytest.raises(UserError, match=r"is not a digest|manifests/0/digest"):
        store.manifest(digest)
    with pytest.raises(UserError, match="is not a digest"), store.open_blob(digest):
        pass


def test_json_that_is_nested_too_deeply() -> None:
    for text in ("[" * 200_000, '{"a":' * 200_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            documents.load(text)


def test_every_limit_has_a_reason() -> None:
    table = limits.table()
    assert set(table) == {"documents", "files", "layers"}
    every = [*table["documents"].values(), *table["files"], *table["layers"].values()]
    assert all(one["why"] for one in every)
