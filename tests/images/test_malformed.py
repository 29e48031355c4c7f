"""Malformed images: each value of their documents replaced by one that does not belong there."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from images.attestations import sbom, sign
from images.conformance import outcomes_output
from images.conformance.check import Requirements, check_image
from images.contents import cache
from images.inspect import diff, diff_output, image_output, reader
from images.registry import oci
from images.registry.client import Reference
from tests.images import hand_made
from tests.images.hand_made import SITE, Layout
from tests.images.publish.publish_fakes import FakeRegistry
from tests.images.small_images import A3, MATRIX, Small, attestation
from tests.images.small_registry import filled

GONE = object()
BAD: tuple[Any, ...] = (
    GONE,
    None,
    True,
    -1,
    10**400,
    "",
    "\x1b[2J\n",
    "\ud800",
    "../x",
    [],
    {},
    [None],
    {"x": None},
)
DEEP = '{"mediaType": ' + '{"a":' * 100_000
NESTED = f'{{"mediaType": "x", "layers": {"[" * 500}{"]" * 500}}}'
TEXTS = ("", "{", "[]", "\xff", DEEP, NESTED)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def quiet(line: str) -> None:
    """Progress, which no test here looks at."""


def spoiled(document: Any) -> Iterator[Any]:
    """The document with each of its values, at any depth, replaced or gone."""
    yield from BAD[1:]
    for *above, key in _places(document):
        for bad in BAD:
            made = copy.deepcopy(document)
            at = made
            for one in above:
                at = at[one]
            if bad is GONE:
                del at[key]
            else:
                at[key] = bad
            yield made


def _places(document: Any) -> Iterator[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (key,)
        if isinstance(value, dict | list):
            yield from ((key, *place) for place in _places(value))


def refused(error: UserError, code: int = 65) -> bool:
    """Check that an error is one printable line of moderate length."""
    lines = [str(finding) for finding in error.findings]
    assert error.exit_code == code, lines
    assert all(line.isprintable() and len(line) < 500 for line in lines), lines
    return True


# ---- invoke inspect ------------------------------------------------------------------------------


def inspect(reference: str) -> bool:
    """Show an image in every form; whether it was refused."""
    try:
        images = reader.read_images([reference], at="layout", say=quiet)
    except UserError as error:
        return refused(error, 64 if "tags" in str(error) else 65)
    changed = diff.differences(images, images)
    for text in (image_output.images_text(images), diff_output.differences_text(changed)):
        assert text.replace("\n", "").isprintable()
    json.dumps([image_output.images_data(images), diff_output.differences_data(changed)])
    return False


def inspect_only(layout: Layout, descriptor: dict[str, Any]) -> bool:
    entry = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": "v1"}}
    (layout.directory / "index.json").write_text(json.dumps({"manifests": [entry]}))
    return inspect(f"{layout.directory}:v1")


def documents(layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and the manifest of an image that has everything."""
    layer, diff_id = layout.layer({"etc/hostname": "x"})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2025-01-01",
        "config": {**hand_made.config(), "Cmd": ["serve"], "User": "0"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "RUN x"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.json(config, CONFIG),
        "layers": [layer],
        "annotations": {"a": "b"},
        "subject": layer,
    }
    return config, manifest


def test_an_image_that_has_everything(layout: Layout) -> None:
    assert not inspect_only(layout, layout.json(documents(layout)[1], MANIFEST))


def test_configurations(layout: Layout) -> None:
    config, manifest = documents(layout)
    count = 0
    for made in spoiled(config):
        one = {**manifest, "config": layout.json(made, CONFIG)}
        count += inspect_only(layout, layout.json(one, MANIFEST))
    assert count > 300


def test_manifests(layout: Layout) -> None:
    _, manifest = documents(layout)
    made = (layout.json(one, MANIFEST) for one in spoiled(manifest))
    assert sum(inspect_only(layout, one) for one in made) > 150


def test_indexes(layout: Layout) -> None:
    images = [layout.image([{"a": arch}], arch=arch) for arch in ("amd64", "arm64")]
    parts = [*images, attestation(layout, images[0])]
    index = {"schemaVersion": 2, "mediaType": oci.INDEXES[0], "manifests": parts}
    made = (layout.json(one, oci.INDEXES[0]) for one in spoiled(index))
    assert sum(inspect_only(layout, one) for one in made) > 150


def test_indexes_of_layouts(layout: Layout) -> None:
    image = layout.image([{"a": "b"}])
    reference = layout.tag("v1", image)
    layout.attach(image, b"{}", "application/spdx+json")
    path = layout.directory / "index.json"
    count = 0
    for made in spoiled(json.loads(path.read_text())):
        path.write_text(json.dumps(made))
        count += inspect(reference)
    assert count > 100


def test_attestations(tmp_path: Path) -> None:
    statement = {
        "predicateType": "https://cyclonedx.org/bom",
        "predicate": {"bomFormat": "CycloneDX"},
        "subject": [{"name": "x", "digest": {"sha256": "ab"}}],
    }
    bundle = {"dsseEnvelope": {"payload": base64.b64encode(b"{}").decode()}}
    payloads = [json.dumps(one).encode() for one in spoiled(statement)]
    payloads += [text.encode() for text in TEXTS]
    made = [{"payload": base64.b64encode(one).decode()} for one in payloads]
    made += [{"payload": "\xe9"}, {"payload": "a"}]
    count = 0
    for number, one in enumerate((*made, *spoiled(bundle))):
        layout = Layout(tmp_path / str(number))
        image = layout.image([{"a": "b"}])
        content = json.dumps(one).encode()
        layout.attach(image, content, "application/vnd.dsse.envelope.v1+json")
        count += inspect(layout.tag("v1", image))
    assert count > 100


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_not_json_or_too_deep(layout: Layout, text: str) -> None:
    _, manifest = documents(layout)
    one = {**manifest, "config": layout.blob(text.encode("latin-1"), CONFIG)}
    assert inspect_only(layout, layout.json(one, MANIFEST))
    assert inspect_only(layout, layout.blob(text.encode("latin-1"), MANIFEST))
    (layout.directory / "index.json").write_bytes(text.encode("latin-1"))
    assert inspect(f"{layout.directory}:v1")


PLACE = f"{SITE}/x-1.0.dist-info"
NAMED = "Name: x\nVersion: 1\n"
CONTENTS = {
    f"{PLACE}/METADATA": (
        "",
        "Name: \nVersion: \n",
        "Name: x\x1b[2J\nVersion: \0\n",
        "Name: x y/z\nVersion: a b\n",
        "\xff\0",
        f"{NAMED}License-Expression: {'(' * 5000}\n",
        f"{NAMED}Classifier: License :: \n",
    ),
    f"{PLACE}/RECORD": (
        *("x,sha256=!!!,\n", "x,sha256=a,1\n", "x,sha256=\xe9,\n", ",\n", '"x', "\0,,\n"),
        f'"{"x" * 200_000}"\n',
        "../../../../etc/passwd,sha256=YQ,1\n",
    ),
    "etc/os-release": ("ID='\n", 'ID="a\n', "\\", "=x\n", "\0", "ID=a b/../c\nVERSION_ID=\x1b\n"),
    "var/lib/dpkg/status": (
        *("Package: \n", "Package: x\nSource: \n", "Package: x\nStatus:\n", ":::\n\n"),
        "Package: x\x1b\nVersion: \0\n",
        "Package: x/y\nSource: =?x?=\n",
    ),
    "var/lib/rpm/rpmdb.sqlite": ("", "x"),
    "opt/ascend/env/roles.yaml": ("a: &a [*a]\n", "!!python/object:os.x y", "? [a]\n", "{1: 2}"),
}


@pytest.mark.usefixtures("unsigned")
@pytest.mark.parametrize(
    ("path", "text"), [(path, text) for path, texts in CONTENTS.items() for text in texts]
)
def test_what_is_in_the_layers(layout: Layout, path: str, text: str) -> None:
    small = Small(arch="amd64", variant=A3)
    own = {f"{PLACE}/METADATA": NAMED, f"{PLACE}/RECORD": "", path: text.encode("latin-1")}
    small.layers = [*small.layers[:1], own]
    image = small.write(layout)
    inspect_only(layout, image)
    registry = filled(layout.directory, "v1", image["digest"])
    check(registry)


# ---- invoke conformance, invoke sbom -------------------------------------------------------------


@pytest.fixture
def unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign, "signature_error", lambda *_: "")
    monkeypatch.setattr(sign, "attestations", lambda *_: ([], "there is none"))


def publish(registry: FakeRegistry, document: Any, media_type: str) -> dict[str, Any]:
    """A document as a blob and as a manifest under a tag."""
    made = oci.Manifest(media_type, json.dumps(document).encode())
    registry.blobs[made.digest] = made.body
    registry.manifests[made.digest] = made
    registry.tagged["v1"] = made.digest
    return made.descriptor.raw


def check(registry: FakeRegistry) -> None:
    wanted = Requirements(("amd64",), sign.Trust("env://KEY"), provenance=False)
    at = Reference.parse(f"{registry.name}:v1", "IMAGE")
    try:
        report = check_image(MATRIX, registry, at, wanted, quiet)
        assert all(str(finding).isprintable() for finding in report.problems)
        json.dumps(outcomes_output.report_data(report))
    except UserError as error:
        refused(error)
    root = registry.manifest("v1")
    assert root
    try:
        sbom.documents(MATRIX, registry, root, (), quiet)
    except UserError as error:
        refused(error)


@pytest.mark.usefixtures("unsigned")
def test_published_images(layout: Layout) -> None:
    """Of each kind of document."""
    image = Small(arch="amd64", variant=A3).write(layout)
    parts = [image, attestation(layout, image)]
    registry = filled(layout.directory)
    manifest = json.loads(registry.blobs[image["digest"]])
    config = json.loads(registry.blobs[manifest["config"]["digest"]])
    config["config"]["Labels"] = dict(list(config["config"]["Labels"].items())[:3])
    manifest["layers"] = manifest["layers"][:1]
    for made in spoiled(config):
        publish(registry, {**manifest, "config": publish(registry, made, CONFIG)}, MANIFEST)
        check(registry)
    for made in spoiled(manifest):
        publish(registry, made, MANIFEST)
        check(registry)
    for made in spoiled({"schemaVersion": 2, "manifests": parts}):
        publish(registry, made, oci.INDEXES[0])
        check(registry)
