"""What cosign is asked, and what its answers are taken for."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from common.errors import UserError
from images.attestations import sign
from images.attestations.provenance import Statement
from images.attestations.sign import Signer, Trust

IMAGE = "registry.example.com/team/vllm-ascend@sha256:" + "0" * 64


class FakeCosign:
    """An executable that notes its arguments and answers what a test put in its mouth."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.answer()

    def answer(self, out: str = "", err: str = "", code: int = 0) -> None:
        (self.directory / "out").write_text(out)
        (self.directory / "err").write_text(err)
        script = self.directory / "cosign"
        script.write_text(
            f'#!/bin/sh\ncd {self.directory}\necho "$@" >>calls\n'
            f"cat out\ncat err >&2\nexit {code}\n"
        )
        script.chmod(0o755)

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()


@pytest.fixture
def cosign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCosign:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return FakeCosign(directory)


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "cosign.key"
    path.write_text("")
    return str(path)


def test_the_transparency_log_is_left_out_only_where_that_is_said(
    cosign: FakeCosign, key: str
) -> None:
    sign.sign(IMAGE, Signer(key))
    sign.sign(IMAGE, Signer())
    sign.sign(IMAGE, Signer(key, offline=True))
    assert cosign.calls() == [
        f"sign --recursive --yes --key {key} --tlog-upload=true {IMAGE}",
        f"sign --recursive --yes --tlog-upload=true {IMAGE}",
        f"sign --recursive --yes --key {key} --tlog-upload=false {IMAGE}",
    ]


def test_whose_signature_counts(cosign: FakeCosign, key: str) -> None:
    assert sign.signature_error(IMAGE, Trust(key)) == ""
    assert sign.signature_error(IMAGE, Trust(key, offline=True)) == ""
    assert (
        sign.signature_error(IMAGE, Trust(identity="https://ci/x", issuer="https://issuer")) == ""
    )
    assert cosign.calls() == [
        f"verify --key {key} --insecure-ignore-tlog=false --output=json {IMAGE}",
        f"verify --key {key} --insecure-ignore-tlog=true --output=json {IMAGE}",
        "verify --certificate-identity https://ci/x --certificate-oidc-issuer https://issuer "
        f"--output=json {IMAGE}",
    ]


@pytest.mark.parametrize(
    ("trust", "what"),
    [
        ({}, ["no trusted signer is given"]),
        ({"identity": "x"}, ["no trusted signer is given"]),
        ({"key": "env://K", "issuer": "y"}, ["--key: excludes"]),
        (
            {"identity": "x", "issuer": "y", "offline": True},
            ["--no-transparency-log: a signature without a key needs"],
        ),
        ({"key": "nowhere.pub"}, ["no such file: nowhere.pub"]),
        ({"offline": True}, ["no trusted signer", "--no-transparency-log"]),
    ],
)
def test_a_trust_that_is_none(trust: dict[str, str], what: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        Trust(**trust)  # type: ignore[arg-type]
    assert refused.value.exit_code == 64
    assert len(refused.value.findings) == len(what)
    for words, problem in zip(what, refused.value.findings, strict=True):
        assert words in str(problem)


def test_keys_that_are_no_files() -> None:
    assert Trust("env://COSIGN_PUBLIC_KEY").options[:2] == ["--key", "env://COSIGN_PUBLIC_KEY"]
    with pytest.raises(UserError, match="--no-transparency-log"):
        Signer(offline=True)
    with pytest.raises(UserError, match=r"no such file: gone\.key"):
        Signer("gone.key")


def test_what_cosign_says_is_told_once(cosign: FakeCosign, key: str) -> None:
    cosign.answer(err="WARNING: x\nError: no signatures found\nerror during command: y\n", code=10)
    assert sign.signature_error(IMAGE, Trust(key)) == "no signatures found"
    assert sign.attestations(IMAGE, sign.SBOM, Trust(key)) == ([], "no signatures found")
    with pytest.raises(UserError, match="cosign sign: no signatures found") as refused:
        sign.sign(IMAGE, Signer(key))
    assert refused.value.exit_code == 70


def test_a_registry_or_log_that_does_not_answer_says_nothing_of_the_image(
    cosign: FakeCosign, key: str
) -> None:
    cosign.answer(err="Error: Get https://x/v2/: dial tcp: connect: connection refused\n", code=1)
    with pytest.raises(UserError) as refused:
        sign.signature_error(IMAGE, Trust(key))
    assert refused.value.exit_code == 69


def test_no_cosign(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="cosign: is not installed") as refused:
        sign.signature_error(IMAGE, Trust(key))
    assert refused.value.exit_code == 69


def test_statements_are_taken_out_of_their_envelopes(cosign: FakeCosign, key: str) -> None:
    said = {"predicateType": "https://cyclonedx.org/bom", "subject": [], "predicate": {"a": 1}}
    envelope = {"payload": base64.b64encode(json.dumps(said).encode()).decode()}
    cosign.answer(out=f"{json.dumps(envelope)}\n{json.dumps(envelope)}\n")
    found, wrong = sign.attestations(IMAGE, sign.SBOM, Trust(key))
    assert wrong == ""
    assert found == [Statement("https://cyclonedx.org/bom", (), {"a": 1})] * 2
    assert cosign.calls()[0].startswith("verify-attestation --key")


def test_attestations_come_before_the_signature(cosign: FakeCosign, key: str) -> None:
    statement = Statement("https://slsa.dev/provenance/v0.2", (), {"builder": {"id": "x"}})
    arm, repository = f"sha256:{'1' * 64}", IMAGE.partition("@")[0]
    sign.publish(IMAGE, {arm: "{}"}, {arm: [statement]}, Signer(key))
    words = [(call.split()[0], call.split()[-1]) for call in cosign.calls()]
    assert words == [
        ("attest", f"{repository}@{arm}"),
        ("attest", f"{repository}@{arm}"),
        ("sign", IMAGE),
    ]
    assert "--replace --type cyclonedx" in cosign.calls()[0]
    assert "--replace --type https://slsa.dev/provenance/v0.2" in cosign.calls()[1]


def test_a_statement_that_is_none() -> None:
    with pytest.raises(UserError, match="is not a statement"):
        Statement.parse("x", b"[]")


def test_the_words_of_slsa_1() -> None:
    predicate = {
        "buildDefinition": {"resolvedDependencies": [{"uri": "u", "digest": {"sha256": "d"}}]},
        "runDetails": {"builder": {"id": "https://ci/run/1"}},
    }
    found = Statement("https://slsa.dev/provenance/v1", (), predicate)
    assert (found.materials, found.builder) == ({"u": "d"}, "https://ci/run/1")
