"""Check whether a published image is what the matrix says, complete, signed and without secrets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from common.errors import EX_UNAVAILABLE, Finding, UserError, user_error
from common.terminal import Say
from images.attestations import sign
from images.attestations.provenance import Statement, buildkit
from images.attestations.sign import Trust
from images.conformance import digests, files, labels, sbom, secrets
from images.conformance.model import Outcome, Report, merged, outcome_of
from images.contents import image as images
from images.contents import layers, packages
from images.contents.image import Image
from images.matrix import Matrix
from images.registry.client import Reference, Repository
from images.registry.oci import Manifest


@dataclass(frozen=True)
class Requirements:
    """What an image must have: architectures, a trusted signature, provenance.

    Unless `unsigned`, no layer is read without a trusted signature.
    """

    arches: Sequence[str]
    trust: Trust
    provenance: bool = True
    unsigned: bool = False


def check_image(
    matrix: Matrix, repository: Repository, at: Reference, wanted: Requirements, say: Say
) -> Report:
    """Report everything that is wrong with an image.

    Raises UserError (69) if the registry does not answer or lacks the image.
    """
    key = at.digest or at.tag or "latest"
    name = f"{repository.name}{'@' if at.digest else ':'}{key}"
    root = repository.manifest(key)
    if root is None:
        raise user_error(name, "is not in the registry", "", EX_UNAVAILABLE)
    say(f"{name} is {root.digest}")
    return Report(name, root.digest, _Check(matrix, repository, at.tag, wanted, say).of(root))


@dataclass
class _Check:
    """One run. `manifests` and `statements` hold what the first checks read for the later ones."""

    matrix: Matrix
    repository: Repository
    tag: str
    wanted: Requirements
    say: Say
    manifests: dict[str, Manifest] = field(default_factory=dict)
    statements: dict[str, list[Statement]] = field(default_factory=dict)

    def of(self, root: Manifest) -> tuple[Outcome, ...]:
        signature = outcome_of("signature", self._signature(root))
        outcomes = [
            signature,
            outcome_of("platforms", self._platforms(root)),
            outcome_of("provenance", self._provenance_in_index(root)),
        ]
        read = signature.ok or self.wanted.unsigned
        for arch, manifest in self.manifests.items():
            outcomes += self._image(arch, manifest, root, read)
        return merged(outcomes)

    def _at(self, manifest: Manifest) -> str:
        return f"{self.repository.name}@{manifest.digest}"

    def _signature(self, root: Manifest) -> Iterator[Finding]:
        trust = self.wanted.trust
        if wrong := sign.signature_error(self._at(root), trust):
            whose = trust.key or f"{trust.identity} of {trust.issuer}"
            yield Finding("signature", f"no signature by {whose}: {wrong}", self._at(root))

    def _platforms(self, root: Manifest) -> Iterator[Finding]:
        named = root.arches if root.is_index else {"": root.digest}
        for arch, digest in named.items():
            try:
                manifest = self.repository.manifest(digest) if root.is_index else root
                if manifest is None:
                    raise user_error(arch, "the manifest is not in the registry")
                built_for = self._built_for(manifest)
            except UserError as error:  # other bytes under this digest, too
                yield Finding(f"platforms: {arch}", error.findings[0].message, digest)
                continue
            if arch and built_for != arch:
                yield Finding(f"platforms: {arch}", f"the image is built for {built_for}", digest)
            self.manifests[arch or built_for] = manifest
        there = ", ".join(dict.fromkeys(name for name in (*named, *self.manifests) if name))
        for arch in self.wanted.arches:
            if arch not in named and arch not in self.manifests:
                yield Finding(f"platforms: {arch}", "is missing", f"there is {there}")

    def _built_for(self, manifest: Manifest) -> str:
        """The architecture in the configuration. Raises UserError."""
        digest = images.config_digest(manifest)
        if self.repository.blob_size(digest) is None:
            raise user_error("config", f"the configuration {digest} is not in the registry")
        return str(images.config(self.repository, manifest).get("architecture", ""))

    def _provenance_in_index(self, root: Manifest) -> Iterator[Finding]:
        """Read BuildKit's statements in the index, which the signature of the index covers."""
        if root.is_index:
            self.statements = buildkit(self.repository, root)
        for digest, statements in self.statements.items():
            for statement in statements:
                if statement.subjects and digest not in statement.subjects:
                    about = ", ".join(statement.subjects)
                    yield Finding("provenance", f"that of {digest} is about {about}")

    def _image(
        self, arch: str, manifest: Manifest, root: Manifest, read: bool
    ) -> Iterator[Outcome]:
        """Check one architecture; only in part if its layers cannot be read."""
        search = secrets.Search()
        sboms, no_sbom = sign.attestations(self._at(manifest), sign.SBOM, self.wanted.trust)
        provenance = self._statements_of(manifest)
        yield outcome_of("provenance", self._provenance(arch, provenance))
        if not sboms:
            what = f"there is no signed SBOM: {no_sbom}"
            yield Outcome("SBOM", (Finding(f"SBOM {arch}", what, self._at(manifest)),))
        missing = tuple(self._missing_blobs(arch, manifest))
        if not read:
            what = "are not read: the image has no trusted signature"
            missing += (Finding(f"layers {arch}", what, "--unsigned reads them anyway"),)
        yield Outcome("layers", missing)
        if missing:
            return
        self.say(f"reading {arch}, {sum(blob.size for blob in manifest.blobs) / 1e6:,.1f} MB")
        try:
            inside = layers.read(
                self.repository, manifest, keep=packages.wanted, visit=search.visit
            )
        except UserError as error:
            if error.exit_code == EX_UNAVAILABLE:
                raise
            yield Outcome("layers", tuple(_prefixed(f"layers {arch}", error.findings)))
            return
        image = Image(manifest, images.config(self.repository, manifest), inside)
        python = packages.packages(inside)
        notes = {**root.annotations, **manifest.annotations}
        named = [
            *labels.problems(self.matrix, image.labels, self.tag, python),
            *labels.layers(image.labels, len(inside.layers)),
            *digests.problems(image.labels, self.tag, notes, provenance),
        ]
        looks = {
            "layers": _layer_mismatch(image),
            "SBOM": sbom.problems(image, sboms),
            "labels": named,
            "files": files.problems(image),
            "secrets": [*search.problems(), *secrets.in_config(image.config)],
        }
        for name, problems in looks.items():
            yield outcome_of(name, _prefixed(f"{name} {arch}", problems))

    def _statements_of(self, manifest: Manifest) -> list[Statement]:
        """The provenance of an image: BuildKit's in the index, else signed attestations."""
        if beside := self.statements.get(manifest.digest):
            return beside
        if not self.wanted.provenance:
            return []
        at, trust = self._at(manifest), self.wanted.trust
        return [one for kind in sign.PROVENANCE for one in sign.attestations(at, kind, trust)[0]]

    def _provenance(self, arch: str, found: list[Statement]) -> Iterator[Finding]:
        if self.wanted.provenance and not found:
            what = "is missing: neither signed nor in the index"
            yield Finding(f"provenance {arch}", what, "--no-provenance accepts that")

    def _missing_blobs(self, arch: str, manifest: Manifest) -> Iterator[Finding]:
        for blob in manifest.blobs:
            size = self.repository.blob_size(blob.digest)
            if size is None:
                yield Finding(f"layers {arch}: {blob.digest}", "is not in the registry")
            elif size not in (blob.size, -1):
                what = f"has {size} bytes, the manifest says {blob.size}"
                yield Finding(f"layers {arch}: {blob.digest}", what)


def _prefixed(name: str, problems: Iterable[Finding]) -> Iterator[Finding]:
    for one in problems:
        yield Finding(f"{name}: {one.where}", one.message, one.fix)


def _layer_mismatch(image: Image) -> Iterator[Finding]:
    """Compare the layers with the diff IDs in the configuration."""
    named = (image.config.get("rootfs") or {}).get("diff_ids")
    if named != [layer.diff_id for layer in image.contents.layers]:
        yield Finding(image.manifest.digest, "has other layers than its configuration names")
