"""Sign and verify with cosign, by a key or the identity of a CI job.

The index and the image of each architecture are signed by digest. Each architecture gets its SBOM,
and its provenance if BuildKit wrote one, as signed attestations.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, Finding, UserError, user_error
from common.terminal import Say
from images.attestations import sbom as sboms
from images.attestations.provenance import SLSA, Statement, buildkit
from images.matrix import Matrix
from images.registry.client import Reference, Repository
from images.registry.oci import Manifest

SBOM = "cyclonedx"
PROVENANCE = (f"{SLSA}v0.2", f"{SLSA}v1")
UNREACHABLE = ("connection refused", "no such host", "i/o timeout", "TLS handshake")


@dataclass(frozen=True)
class Signer:
    """Who signs: a `key` (file, env://NAME, KMS), or without one the identity of the CI job.

    `offline` omits the transparency log, which requires a key.
    """

    key: str = ""
    offline: bool = False
    certificates: str = ""

    def __post_init__(self) -> None:
        if wrong := _wrong(self.key, self.offline):
            raise UserError(wrong)

    @property
    def options(self) -> list[str]:
        key = ["--key", self.key] if self.key else []
        return ["--yes", *key, f"--tlog-upload={'false' if self.offline else 'true'}"]


@dataclass(frozen=True)
class Trust:
    """Whose signatures are trusted: those of a public `key`, or of an `identity` from `issuer`."""

    key: str = ""
    identity: str = ""
    issuer: str = ""
    offline: bool = False
    certificates: str = ""

    def __post_init__(self) -> None:
        """Raises UserError (64) unless exactly one kind of trust is given."""
        wrong: list[Finding] = []
        if self.key and (self.identity or self.issuer):
            wrong.append(Finding("--key", "excludes --identity and --issuer", "leave one out"))
        if not self.key and not (self.identity and self.issuer):
            what = "no trusted signer is given"
            wrong.append(Finding("--key", what, "--key FILE, or --identity ID and --issuer URL"))
        if wrong := [*wrong, *_wrong(self.key, self.offline)]:
            raise UserError(wrong)

    @property
    def options(self) -> list[str]:
        if self.key:
            return ["--key", self.key, f"--insecure-ignore-tlog={str(self.offline).lower()}"]
        identity = ["--certificate-identity", self.identity]
        return [*identity, "--certificate-oidc-issuer", self.issuer]


def _wrong(key: str, offline: bool) -> list[Finding]:
    """A key is a file, or an address such as env://NAME or that of a KMS."""
    if offline and not key:
        what = "a signature without a key needs the transparency log"
        return [Finding("--no-transparency-log", what, "--key FILE")]
    if not key or "://" in key or Path(key).is_file():
        return []
    return [Finding("--key", f"no such file: {key}", "cosign generate-key-pair makes one")]


def sign(reference: str, signer: Signer) -> None:
    """Sign an image by digest; an index with all its images. Raises UserError (69, 70)."""
    _cosign(["sign", "--recursive", *signer.options, reference], signer.certificates)


def attest(reference: str, kind: str, predicate: str, signer: Signer) -> None:
    """Attach a signed statement; replaces an earlier one of its kind. Raises UserError."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "predicate.json"
        file.write_text(predicate)
        options = ["--replace", "--type", kind, "--predicate", str(file)]
        _cosign(["attest", *options, *signer.options, reference], signer.certificates)


def image(matrix: Matrix, repository: Repository, at: Reference, signer: Signer, say: Say) -> str:
    """Sign the image with a tag or digest, its SBOM and BuildKit's provenance; return it by digest.

    Raises UserError (65, 69, 70).
    """
    key = at.digest or at.tag or "latest"
    root = repository.manifest(key)
    if root is None:
        raise user_error(f"{at.repository}: {key}", "is not in the registry", "", EX_UNAVAILABLE)
    beside = buildkit(repository, root) if root.is_index else {}
    return index(matrix, repository, root, beside, signer, say)


def index(
    matrix: Matrix,
    repository: Repository,
    root: Manifest,
    beside: Mapping[str, Sequence[Statement]],
    signer: Signer,
    say: Say,
) -> str:
    """Sign an index in a repository, with an SBOM of each image and the provenance `beside` them
    (by manifest digest); return it by digest. Raises UserError (65, 69, 70)."""
    made = sboms.documents(matrix, repository, root, (), say)
    reference = f"{repository.name}@{root.digest}"
    say(f"signing {reference}")
    publish(reference, {manifest.digest: text for manifest, text in made.values()}, beside, signer)
    return reference


def publish(
    reference: str,
    sboms: Mapping[str, str],
    provenance: Mapping[str, Sequence[Statement]],
    signer: Signer,
) -> None:
    """Attest what is known of an index's images, by manifest digest, and sign it last.

    `reference` is the index by its digest. A second run replaces the attestations. Raises
    UserError (69, 70).
    """
    repository = reference.partition("@")[0]
    for digest, sbom in sboms.items():
        attest(f"{repository}@{digest}", SBOM, sbom, signer)
    for digest, statements in provenance.items():
        for statement in statements:
            predicate = json.dumps(statement.predicate)
            attest(f"{repository}@{digest}", statement.kind, predicate, signer)
    sign(reference, signer)


def signature_error(reference: str, trust: Trust) -> str:
    """Why the signature of an image is not valid; empty if it is."""
    try:
        _cosign(["verify", *trust.options, "--output=json", reference], trust.certificates)
    except UserError as error:
        return _unless_unreachable(error)
    return ""


def attestations(reference: str, kind: str, trust: Trust) -> tuple[list[Statement], str]:
    """The validly signed statements of a kind, or why there are none."""
    command = ["verify-attestation", *trust.options, "--type", kind, "--output=json", reference]
    try:
        lines = _cosign(command, trust.certificates).splitlines()
    except UserError as error:
        return [], _unless_unreachable(error)
    return [Statement.signed(reference, line) for line in lines if line], ""


def _unless_unreachable(error: UserError) -> str:
    if error.exit_code == EX_UNAVAILABLE:
        raise error
    return error.findings[0].message


def _cosign(arguments: Sequence[str], certificates: str) -> str:
    """Raises UserError: 69 without cosign or the registry, 70 with cosign's error."""
    if shutil.which("cosign") is None:
        raise user_error("cosign", "is not installed", "./setup.sh installs it", EX_UNAVAILABLE)
    environment = {**os.environ, **({"SSL_CERT_FILE": certificates} if certificates else {})}
    environment.setdefault("COSIGN_PASSWORD", "")  # else it asks on the terminal
    answer = subprocess.run(
        ["cosign", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    if answer.returncode == 0:
        return answer.stdout
    words = _last_error(answer.stderr)
    code = EX_UNAVAILABLE if any(one in words for one in UNREACHABLE) else EX_SOFTWARE
    raise user_error(f"cosign {arguments[0]}", words, exit_code=code)


def _last_error(stderr: str) -> str:
    """The last error in cosign's output, which repeats it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (errors or lines or ["failed without a word"])[-1]
