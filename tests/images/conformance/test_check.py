"""invoke conformance: what it finds in an image, with signatures that a test gives out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import EX_UNAVAILABLE, UserError, user_error
from images.attestations import sbom, sign
from images.attestations.provenance import Statement, base_digest
from images.attestations.sign import Trust
from images.build import render
from images.conformance import digests, files, labels, outcomes_output, secrets
from images.conformance import sbom as sbom_check
from images.conformance.check import Requirements, check_image
from images.conformance.model import Report
from images.contents import layers
from images.contents.packages import packages, wanted
from images.labels import BASE_DIGEST as DIGEST_LABEL
from images.labels import BASE_NAME, INPUTS
from images.registry.client import Reference
from tests.images.hand_made import Layout
from tests.images.small_images import (
    A2,
    A3,
    BASE_DIGEST,
    INPUTS_DIGEST,
    MATRIX,
    SITE,
    Small,
    attestation,
    index,
    package,
    pair,
    statement,
)
from tests.images.small_registry import filled, image

NAME = "registry.example.com/team/vllm-ascend"
TRUST = Trust("env://KEY")


@dataclass
class Signatures:
    """What cosign would find: the digests that are signed, and the SBOM of each image."""

    signed: set[str] = field(default_factory=set)
    sboms: dict[str, list[str]] = field(default_factory=dict)
    provenance: set[str] = field(default_factory=set)

    def of_image(self, reference: str, trust: Trust) -> str:
        return "" if reference.partition("@")[2] in self.signed else "no signatures found"

    def of_statement(self, reference: str, kind: str, trust: Trust) -> tuple[list[Statement], str]:
        digest = reference.partition("@")[2]
        if kind == sign.SBOM:
            texts = self.sboms.get(digest, [])
            found = [Statement(kind, (digest,), json.loads(text)) for text in texts]
            return found, "" if found else "no matching attestations"
        return ([Statement(kind, (digest,), {})] if digest in self.provenance else []), ""


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> Signatures:
    made = Signatures()
    monkeypatch.setattr(sign, "signature_error", made.of_image)
    monkeypatch.setattr(sign, "attestations", made.of_statement)
    return made


@dataclass
class Scene:
    """A published image that is signed with its SBOMs, until a test spoils it."""

    directory: Path
    signatures: Signatures
    smalls: list[Small] = field(default_factory=pair)
    tag: str = A3.tag
    provenance: bool = True
    arches: tuple[str, ...] = ("arm64", "amd64")
    spoil: Callable[[Any], None] = lambda registry: None
    unsigned: bool = False

    def report(self) -> Report:
        root = index(Layout(self.directory), self.smalls, self.provenance)
        registry = filled(self.directory, self.tag, root["digest"])
        made = sbom.documents(MATRIX, registry, registry.manifests[root["digest"]], (), quiet)
        self.signatures.signed.add(root["digest"])
        for manifest, text in made.values():
            self.signatures.sboms.setdefault(manifest.digest, [text])
        self.spoil(registry)
        at = Reference.parse(f"{NAME}:{self.tag}", "IMAGE")
        wanted = Requirements(self.arches, TRUST, unsigned=self.unsigned)
        return check_image(MATRIX, registry, at, wanted, quiet)

    def problems(self) -> list[str]:
        return [str(problem) for problem in self.report().problems]


def quiet(words: str) -> None:
    """Progress, which no test here looks at."""


@pytest.fixture
def scene(tmp_path: Path, signatures: Signatures) -> Scene:
    return Scene(tmp_path / "layout", signatures)


# ---- the whole -----------------------------------------------------------------------------------


def test_a_good_image(scene: Scene) -> None:
    report = scene.report()
    assert report.problems == ()
    assert [one.name for one in report.outcomes] == [
        *("signature", "platforms", "provenance", "layers", "SBOM", "labels", "files", "secrets")
    ]
    assert outcomes_output.report_data(report)["ok"] is True
    assert outcomes_output.report_text(report).count("ok") == 8


def test_everything_wrong_is_said_at_once(scene: Scene) -> None:
    scene.smalls = [Small(arch="arm64", env=["HF_TOKEN=hf_x"])]
    scene.smalls[0].labels["ascend.pin.torch"] = "2.7.1"
    scene.smalls[0].layers.append({"root/.netrc": "machine x login y password z"})
    scene.provenance = False
    scene.unsigned = True
    scene.spoil = lambda registry: scene.signatures.signed.clear()
    report = scene.report()
    assert [one.name for one in report.outcomes if not one.ok] == [
        *("signature", "platforms", "provenance", "labels", "secrets")
    ]
    assert len(report.problems) == 7
    data = outcomes_output.report_data(report)
    assert data["ok"] is False
    assert data["checks"][0]["problems"] == [
        {
            "where": "signature",
            "what": "no signature by env://KEY: no signatures found",
            "fix": f"{NAME}@{report.digest}",
        }
    ]
    rows = [line.split(maxsplit=1) for line in outcomes_output.report_text(report).splitlines()[2:]]
    assert dict(rows) == {
        "signature": "1 problem",
        "platforms": "1 problem",
        "provenance": "1 problem",
        "layers": "ok",
        "SBOM": "ok",
        "labels": "2 problems",
        "files": "ok",
        "secrets": "2 problems",
    }


def test_no_such_image_and_no_registry_are_not_the_images_fault(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = filled_empty(scene)
    at = Reference.parse(f"{NAME}:gone", "IMAGE")
    with pytest.raises(UserError, match="gone: is not in the registry") as refused:
        check_image(MATRIX, registry, at, Requirements(("arm64",), TRUST), quiet)
    assert refused.value.exit_code == EX_UNAVAILABLE

    def unreachable(*_: object) -> str:
        raise user_error("cosign verify", "connection refused", exit_code=EX_UNAVAILABLE)

    monkeypatch.setattr(sign, "signature_error", unreachable)
    with pytest.raises(UserError, match="connection refused") as refused:
        scene.report()
    assert refused.value.exit_code == EX_UNAVAILABLE


def filled_empty(scene: Scene) -> Any:
    Layout(scene.directory)
    return filled(scene.directory)


def test_no_layer_is_read_before_a_trusted_signature(scene: Scene) -> None:
    opened: set[str] = set()
    layers: set[str] = set()

    def unsigned(registry: Any) -> None:
        scene.signatures.signed.clear()
        for manifest in registry.manifests.values():
            layers.update(one.digest for one in manifest.blobs if "tar" in one.media_type)
        open_blob = registry.open_blob

        def record(digest: str) -> Any:
            opened.add(digest)
            return open_blob(digest)

        registry.open_blob = record

    scene.spoil = unsigned
    report = scene.report()
    assert [one.name for one in report.outcomes if not one.ok] == ["signature", "layers"]
    assert [str(problem) for problem in report.problems[1:]] == [
        f"layers {arch}: are not read: the image has no trusted signature "
        "(--unsigned reads them anyway)"
        for arch in ("arm64", "amd64")
    ]
    assert not opened & layers
    scene.unsigned = True
    assert [one.name for one in scene.report().outcomes if not one.ok] == ["signature"]
    assert layers <= opened


# ---- platforms, layers, signatures ---------------------------------------------------------------


def test_a_missing_architecture(scene: Scene) -> None:
    scene.smalls = [Small(arch="arm64")]
    assert scene.problems() == ["platforms: amd64: is missing (there is arm64)"]
    scene.arches = ("arm64",)
    assert scene.problems() == []


def test_an_architecture_under_the_wrong_name(scene: Scene, tmp_path: Path) -> None:
    def swapped(registry: Any) -> None:
        root = registry.manifests[registry.tagged[scene.tag]]
        document = json.loads(root.body)
        one, two = document["manifests"][:2]
        one["platform"], two["platform"] = two["platform"], one["platform"]
        made = type(root).made({**document, "mediaType": root.media_type})
        registry.manifests[made.digest] = made
        registry.tagged[scene.tag] = made.digest
        scene.signatures.signed.add(made.digest)

    scene.spoil = swapped
    said = scene.problems()
    assert [line.partition(" (")[0] for line in said[:2]] == [
        "platforms: amd64: the image is built for arm64",
        "platforms: arm64: the image is built for amd64",
    ]


def test_one_image_without_an_index(scene: Scene) -> None:
    def alone(registry: Any) -> None:
        root = registry.manifests[registry.tagged[scene.tag]]
        digest = root.arches["arm64"]
        registry.tagged[scene.tag] = digest
        scene.signatures.signed.add(digest)
        scene.signatures.provenance.add(digest)

    scene.spoil = alone
    assert scene.problems() == ["platforms: amd64: is missing (there is arm64)"]


def test_what_is_missing_in_the_registry_is_named(scene: Scene) -> None:
    gone: list[str] = []

    def lose(registry: Any) -> None:
        root = registry.manifests[registry.tagged[scene.tag]]
        arm, amd = (registry.manifests[root.arches[arch]] for arch in ("arm64", "amd64"))
        shared = {layer["digest"] for layer in amd.document["layers"]}
        gone.append(next(b.digest for b in arm.blobs[1:] if b.digest not in shared))
        gone.append(amd.digest)
        del registry.blobs[gone[0]], registry.manifests[amd.digest]

    scene.spoil = lose
    said = scene.problems()
    assert f"layers arm64: {gone[0]}: is not in the registry" in said
    assert f"platforms: amd64: the manifest is not in the registry ({gone[1]})" in said


def test_a_layer_with_other_bytes(scene: Scene) -> None:
    def other(registry: Any) -> None:
        root = registry.manifests[registry.tagged[scene.tag]]
        arm = registry.manifests[root.arches["arm64"]]
        digest = arm.document["layers"][2]["digest"]
        content = bytearray(registry.blobs[digest])
        content[-1] ^= 1
        registry.blobs[digest] = bytes(content)

    scene.spoil = other
    said = scene.problems()
    assert len(said) == 2, "both architectures share it"
    assert all(line.startswith(("layers arm64: layer", "layers amd64: layer")) for line in said)


def test_a_configuration_that_names_other_layers(scene: Scene) -> None:
    def lie(registry: Any) -> None:
        root = registry.manifests[registry.tagged[scene.tag]]
        arm = registry.manifests[root.arches["arm64"]]
        document = json.loads(arm.body)
        document["layers"].reverse()
        made = type(arm).made(document)
        registry.manifests[made.digest] = made
        whole = json.loads(root.body)
        whole["manifests"][0] |= {"digest": made.digest, "size": len(made.body)}
        changed = type(root).made(whole)
        registry.manifests[changed.digest] = changed
        registry.tagged[scene.tag] = changed.digest

    scene.spoil, scene.unsigned = lie, True
    said = "\n".join(scene.problems())
    assert "has other layers than its configuration names" in said
    assert "signature: no signature by env://KEY: no signatures found" in said
    assert "SBOM arm64: there is no signed SBOM: no matching attestations" in said


@pytest.mark.parametrize("body", [b"{}", b'{"config": {}}', b"[]", b"no json"])
def test_a_manifest_that_is_none(scene: Scene, body: bytes) -> None:
    def broken(registry: Any) -> None:
        root = registry.manifests[registry.tagged[scene.tag]]
        digest = root.arches["arm64"]
        registry.manifests[digest] = type(root)(registry.manifests[digest].media_type, body)

    scene.spoil = broken
    assert any("platforms: arm64: is not " in line for line in scene.problems())


# ---- provenance ----------------------------------------------------------------------------------


def test_provenance_in_the_index_or_signed_or_not_wanted(scene: Scene) -> None:
    scene.provenance = False
    said = scene.problems()
    assert [line.partition(":")[0] for line in said] == ["provenance arm64", "provenance amd64"]

    def signed(registry: Any) -> None:
        root = registry.manifests[registry.tagged[scene.tag]]
        scene.signatures.provenance.update(root.arches.values())

    scene.spoil = signed
    assert scene.problems() == []


def test_provenance_of_something_else(tmp_path: Path, signatures: Signatures) -> None:
    layout = Layout(tmp_path)
    one = Small().write(layout)
    root = layout.index([one, attestation(layout, one, about=f"sha256:{'7' * 64}")])
    registry = filled(tmp_path, A3.tag, root["digest"])
    at = Reference.parse(f"{NAME}:{A3.tag}", "IMAGE")
    report = check_image(MATRIX, registry, at, Requirements(("arm64",), TRUST), quiet)
    (outcome,) = (one for one in report.outcomes if one.name == "provenance")
    assert [p.message for p in outcome.problems] == [
        f"that of {one['digest']} is about sha256:{'7' * 64}"
    ]


# ---- labels --------------------------------------------------------------------------------------


def told(small: Small, directory: Path, tag: str) -> list[str]:
    read = image(directory, small)
    found = labels.problems(MATRIX, read.labels, tag, packages(read.contents))
    return [str(problem) for problem in found]


@pytest.mark.parametrize(
    "tag", [A3.tag, f"{A3.tag}-0123456789ab", "latest", ""], ids=["tag", "immutable", "own", "none"]
)
def test_labels_that_are_right(tmp_path: Path, tag: str) -> None:
    assert told(Small(), tmp_path, tag) == []


def test_a_stand_in_is_right_under_its_own_tag_alone(tmp_path: Path) -> None:
    small = Small(labels=render.labels(MATRIX, A3, render.Base("stand-in")))
    assert told(small, tmp_path / "own", f"{A3.tag}-standin") == []
    assert told(small, tmp_path / "other", A3.tag) == [
        f"ascend.base: is 'stand-in', but the tag {A3.tag} is not a stand-in's"
    ]


def test_a_tag_that_points_to_another_platform(tmp_path: Path) -> None:
    said = told(Small(variant=A2), tmp_path, A3.tag)
    assert "ascend.platform: is 'a2', the matrix says 'a3' for v0.13.0rc1-a3" in said
    assert any(line.startswith("ascend.soc-version: is 'ascend910b1'") for line in said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"ascend.pin.cann": "8.5.0"},
            "ascend.pin.cann: is '8.5.0', the matrix says '8.3.rc2' for v0.13.0rc1-a3",
        ),
        (
            {"ascend.pin.torch": None},
            "ascend.pin.torch: is missing, the matrix says '2.8.0' for v0.13.0rc1-a3",
        ),
        (
            {"ascend.fallback.vllm-ascend": "without kernels"},
            "ascend.fallback.vllm-ascend: is 'without kernels', the matrix has no such label here",
        ),
        (
            {"ascend.base": "my own"},
            "ascend.base: is 'my own' (image or packages or stand-in or debian)",
        ),
    ],
)
def test_a_changed_label(tmp_path: Path, changes: dict[str, str | None], said: str) -> None:
    small = Small()
    changed = {**small.labels, **changes}
    small.labels = {name: value for name, value in changed.items() if value is not None}
    assert told(small, tmp_path, A3.tag) == [said]


def test_labels_of_no_release(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the matrix has no such image") as refused:
        told(Small(labels={"org.opencontainers.image.version": "v9"}), tmp_path, "latest")
    assert refused.value.exit_code == 65


def test_a_pin_is_what_is_installed(tmp_path: Path) -> None:
    small = Small()
    small.layers.append({f"{SITE}/.wh.torch-2.8.0.dist-info": "", **package("torch", "2.7.1")})
    small.layers.append({f"{SITE}/.wh.vllm-0.13.0+empty.dist-info": ""})
    assert told(small, tmp_path, A3.tag) == [
        "ascend.pin.torch: is '2.8.0', but torch 2.7.1 is installed",
        "ascend.pin.vllm: is '0.13.0', but vllm is not installed",
    ]


def origin(changes: dict[str, str], tag: str = "", noted: str | None = None) -> list[str]:
    """What is wrong with a label that is as `changes` say."""
    given = {**Small().labels, **changes}
    statements = [Statement.parse("", json.dumps(statement("sha256:x")).encode())]
    annotations = {INPUTS: noted} if noted else {}
    return [str(one) for one in digests.problems(given, tag, annotations, statements)]


def test_digests_that_are_right() -> None:
    assert origin({}, f"{A3.tag}-{INPUTS_DIGEST[:12]}", noted=INPUTS_DIGEST) == []
    assert origin({}, A3.tag) == []


OTHER = "ef" * 32


@pytest.mark.parametrize(
    ("changes", "tag", "noted", "said"),
    [
        (
            {INPUTS: ""},
            "",
            None,
            ["ascend.inputs: is missing (invoke build and publish set it)"],
        ),
        (
            {INPUTS: OTHER},
            A3.tag,
            INPUTS_DIGEST,
            [f"ascend.inputs: is '{OTHER}', the annotation says '{INPUTS_DIGEST}'"],
        ),
        (
            {INPUTS: OTHER},
            f"{A3.tag}-0123456789ab",
            None,
            [f"ascend.inputs: is '{OTHER}', the tag {A3.tag}-0123456789ab says 0123456789ab"],
        ),
        (
            {DIGEST_LABEL: f"sha256:{OTHER}"},
            "",
            None,
            [
                f"{DIGEST_LABEL}: is 'sha256:{OTHER}', the provenance says 'sha256:{BASE_DIGEST}'",
            ],
        ),
        (
            {DIGEST_LABEL: "8.3.rc2", BASE_NAME: "other.example.com/cann:1"},
            "",
            None,
            [f"{DIGEST_LABEL}: is '8.3.rc2', not a digest (invoke build and publish set it)"],
        ),
    ],
)
def test_a_digest_that_something_else_denies(
    changes: dict[str, str], tag: str, noted: str | None, said: list[str]
) -> None:
    assert origin(changes, tag, noted) == said


def test_a_base_of_a_registry_with_a_port() -> None:
    """BuildKit escapes what a package URL has to escape."""
    address = "pkg:docker/registry.example.com%3A5000/ascend/cann@8.3?platform=linux%2Famd64"
    material = {"uri": address, "digest": {"sha256": BASE_DIGEST}}
    found = Statement("", (), {"materials": [material]})
    image = "registry.example.com:5000/ascend/cann:8.3"
    assert base_digest([found], image) == f"sha256:{BASE_DIGEST}"


def test_more_names_than_layers() -> None:
    assert list(labels.layers(Small().labels, 11)) == []
    (problem,) = labels.layers(Small().labels, 10)
    assert str(problem) == "ascend.layers: names 11 layers, the image has 10"


def test_other_digests_are_part_of_a_check(scene: Scene) -> None:
    for small in scene.smalls:
        small.labels |= {DIGEST_LABEL: f"sha256:{OTHER}", INPUTS: OTHER}
    scene.tag = f"{A3.tag}-0123456789ab"
    assert [line for line in scene.problems() if "arm64" in line] == [
        f"labels arm64: ascend.inputs: is '{OTHER}', the tag {scene.tag} says 0123456789ab",
        f"labels arm64: {DIGEST_LABEL}: is 'sha256:{OTHER}', the provenance says "
        f"'sha256:{BASE_DIGEST}'",
    ]


# ---- SBOM and files ------------------------------------------------------------------------------


def billed(directory: Path, small: Small, change: Callable[[dict[str, Any]], None]) -> list[str]:
    read = image(directory, small)
    document = json.loads(sbom.document(MATRIX, read))
    change(document)
    statement = Statement(sign.SBOM, (), document)
    return [str(problem) for problem in sbom_check.problems(read, [statement])]


def test_an_sbom_with_another_base(tmp_path: Path) -> None:
    def lie(document: dict[str, Any]) -> None:
        (base,) = (one for one in document["components"] if one["type"] == "container")
        base["hashes"][0]["content"] = OTHER

    assert billed(tmp_path, Small(), lie) == [
        f"SBOM: {DIGEST_LABEL}: lists sha256:{OTHER}, the label is 'sha256:{BASE_DIGEST}'"
    ]


def test_an_sbom_that_lies(tmp_path: Path) -> None:
    def lie(document: dict[str, Any]) -> None:
        kept = [one for one in document["components"] if one["name"] not in ("vllm", "libc6")]
        (torch,) = (one for one in kept if one["name"] == "torch")
        torch |= {"version": "2.9.0", "purl": "pkg:pypi/torch@2.9.0"}
        document["components"] = kept

    assert billed(tmp_path, Small(), lie) == [
        "SBOM: torch: lists 2.9.0, the image has 2.8.0",
        "SBOM: vllm: lists nothing, the image has 0.13.0+empty",
        "SBOM: libc6: lists nothing, the image has 2.35-0ubuntu3",
    ]


def test_an_sbom_of_another_image(tmp_path: Path) -> None:
    other = image(tmp_path / "other", Small(arch="amd64")).manifest.digest

    def about(document: dict[str, Any]) -> None:
        document["metadata"]["component"]["bom-ref"] = other
        document["dependencies"] = []

    (said,) = billed(tmp_path, Small(), about)
    assert f"SBOM: is about {other}, not sha256:" in said


def test_an_sbom_that_is_none(tmp_path: Path) -> None:
    (said,) = billed(tmp_path, Small(), lambda document: document.update(components="all"))
    assert "SBOM: is not CycloneDX 1.6: 'all' is not of type 'array'" in said


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            {f"{SITE}/torch/__init__.py": "import evil"},
            f"torch 2.8.0: differs from its RECORD: /{SITE}/torch/__init__.py",
        ),
        (
            {f"{SITE}/torch/.wh.__init__.py": ""},
            f"torch 2.8.0: lacks what its RECORD names: /{SITE}/torch/__init__.py",
        ),
        (
            {f"{SITE}/{name}": "import evil" for name in ("a.pth", "b.py", "c.py", "d.py")},
            f"site-packages: files that no RECORD lists: "
            f"/{SITE}/a.pth, /{SITE}/b.py, /{SITE}/c.py and 1 more",
        ),
        ({f"{SITE}/torch-2.8.0.dist-info/.wh.RECORD": ""}, "torch 2.8.0: has no RECORD"),
        ({f"{SITE}/torch/__pycache__/__init__.cpython-311.pyc": "made with the layer"}, None),
        ({"usr/lib/python3/dist-packages/other.py": "the distribution's"}, None),
    ],
)
def test_files_against_record(tmp_path: Path, layer: dict[str, str], said: str | None) -> None:
    small = Small()
    small.layers.append(layer)
    found = [str(problem) for problem in files.problems(image(tmp_path, small))]
    assert [line for line in found if "dist-info" not in line or line == said][:1] == (
        [said] if said else []
    )


# ---- secrets -------------------------------------------------------------------------------------

KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{'MIIEpAIBAAKCAQEA' * 8}\n-----END RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("path", "content", "name"),
    [
        ("root/.netrc", "machine x login y password z", "netrc"),
        ("root/.docker/config.json", '{"auths": {"r": {"auth": "eDp5"}}}', "credentials of a reg"),
        ("root/.docker/config.json", '{"auths": {}, "credsStore": "x"}', None),
        ("etc/pip.conf", "[global]\nindex-url = https://u:p@index.example.com/", "an index with"),
        ("etc/pip.conf", "[global]\nindex-url = https://index.example.com/", None),
        ("etc/apt/auth.conf.d/x", "machine x\n  password y", "a repository with credentials"),
        ("etc/yum.repos.d/x.repo", "baseurl=https://u:p@r.example.com", "a repository with cred"),
        ("home/u/.aws/credentials", "[default]", "credentials of a cloud"),
        ("root/.kube/config", "client-key-data: LS0t", "credentials of a cluster"),
        ("root/.cache/huggingface/token", "x", "a token of a model hub"),
        ("run/secrets/mirrors", "PIP_INDEX_URL=x", "what a secret of the build left behind"),
        ("run/secrets/mirrors", "", None),
        ("opt/any", KEY, "a private key"),
        ("opt/lib.so", "\0-----BEGIN RSA PRIVATE KEY-----\0-----END", None),
        ("opt/key.pem", KEY.replace("RSA ", "ENCRYPTED SIGSTORE "), "a private key"),
        ("opt/key.json", json.dumps({"key": KEY}), "a private key"),
        ("opt/cert.pem", KEY.replace("PRIVATE KEY", "CERTIFICATE"), None),
        ("opt/x.py", f"token = 'ghp_{'a1B2' * 9}'", "a token of GitHub"),
        ("opt/x.py", f"token = 'glpat-{'a1B2_' * 4}'", "a token of GitLab"),
        ("opt/x.py", f"token = 'hf_{'aB' * 17}'", "a token of Hugging Face"),
        ("opt/x.py", f"key = 'AKIA{'A1B2' * 4}'", "a key of AWS"),
        ("opt/x.py", "def hf_hub_download(): ...", None),
    ],
)
def test_secrets_in_layers(tmp_path: Path, path: str, content: str, name: str | None) -> None:
    """Also in a layer whose file the next one removes."""
    directory, _, file = path.rpartition("/")
    small = Small()
    small.layers += [{path: content}, {f"{directory}/.wh.{file}": ""}]
    search = secrets.Search()
    layout = Layout(tmp_path)
    descriptor = small.write(layout)
    registry = filled(tmp_path)
    manifest = registry.manifests[descriptor["digest"]]
    layers.read(registry, manifest, keep=wanted, visit=search.visit)
    said = [str(problem) for problem in search.problems()]
    if name is None:
        assert said == []
    else:
        assert len(said) == 1
        assert f": /{path}: holds {name}" in said[0]
        assert "(" in said[0], "the reason"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"config": {"Env": ["HF_TOKEN=abc"]}}, "ENV HF_TOKEN: holds the value"),
        ({"config": {"Env": ["HF_TOKEN="]}}, None),
        ({"config": {"Env": ["TOKENIZERS_PARALLELISM=false", "PATH=/bin"]}}, None),
        ({"config": {"Env": ["PIP_INDEX_URL=https://u:p@x/"]}}, "ENV PIP_INDEX_URL: holds an addr"),
        ({"config": {"Labels": {"x": f"ghp_{'a1B2' * 9}"}}}, "label x: holds a token of GitHub"),
        (
            {"history": [{"created_by": "RUN |1 DB_PASSWORD=x pip install"}]},
            "history DB_PASSWORD: holds the value",
        ),
        ({"history": [{"created_by": "COPY /out/ / # buildkit"}]}, None),
        ({}, None),
    ],
)
def test_secrets_in_the_configuration(config: dict[str, Any], said: str | None) -> None:
    found = [str(problem) for problem in secrets.in_config(config)]
    assert [line for line in found if said and line.startswith(said)] == found
    assert bool(found) == bool(said)


def test_a_secret_is_not_shown() -> None:
    (problem,) = secrets.in_config({"config": {"Env": ["HF_TOKEN=abcdef"]}})
    assert "abcdef" not in str(problem)


def test_every_pattern_has_a_reason() -> None:
    raw = yaml.safe_load(secrets.PATH.read_text())
    assert set(raw) == {"files", "tokens", "names", "allowed"}
    for kind in ("files", "tokens", "names"):
        assert all(one["why"] and one["name"] for one in raw[kind])
    assert all(one["why"] and one["path"] for one in raw["allowed"])
