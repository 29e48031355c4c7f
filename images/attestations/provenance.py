"""Provenance: who built an image from what (SLSA, as BuildKit writes it).

BuildKit adds a statement about each architecture to the index of the image.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from common.errors import EX_DATAERR, user_error
from images.contents.layers import Blobs
from images.registry import documents, limits
from images.registry.oci import Manifest

SLSA = "https://slsa.dev/provenance/"
OF = "vnd.docker.reference.digest"
KIND, ATTESTATION = "vnd.docker.reference.type", "attestation-manifest"


@dataclass(frozen=True)
class Statement:
    """An in-toto statement: `predicate` describes the subjects with these digests."""

    kind: str
    subjects: tuple[str, ...]
    predicate: Mapping[str, Any]

    @classmethod
    def parse(cls, where: str, content: bytes) -> Statement:
        """Raises UserError (65)."""
        raw = documents.parse(content, "statement", where)
        subjects = [f"sha256:{one['digest']['sha256']}" for one in raw.get("subject") or []]
        return cls(raw["predicateType"], tuple(subjects), raw["predicate"])

    @classmethod
    def signed(cls, where: str, content: bytes | str) -> Statement:
        """Read a DSSE envelope, which newer versions of cosign put in a bundle.

        No signature is verified. Raises UserError (65).
        """
        document = documents.parse(content, "attestation", where)
        payload = document.get("dsseEnvelope", document)["payload"]
        try:
            content = base64.b64decode(payload)
        except ValueError as error:
            what = f"is not an attestation: payload: {error}"
            raise user_error(where, what, exit_code=EX_DATAERR) from None
        return cls.parse(where, content)

    @property
    def builder(self) -> str:
        """Who built it; empty if BuildKit did not know."""
        details = self.predicate.get("runDetails") or self.predicate
        return str((details.get("builder") or {}).get("id") or "")

    @property
    def materials(self) -> dict[str, str]:
        """What it was built from: address → sha256. Reads SLSA 0.2 and 1."""
        definition = self.predicate.get("buildDefinition") or {}
        listed: Iterable[Mapping[str, Any]] = (
            self.predicate.get("materials") or definition.get("resolvedDependencies") or []
        )
        return {
            str(one.get("uri", "")): str((one.get("digest") or {}).get("sha256", ""))
            for one in listed
        }


def buildkit(store: Blobs, index: Manifest) -> dict[str, list[Statement]]:
    """Manifest digest → the provenance that BuildKit added to the index.

    Raises UserError (65) for an attestation that cannot be read.
    """
    found: dict[str, list[Statement]] = {}
    together = limits.Together("statement")
    for entry in index.document.get("manifests") or []:
        notes = entry.get("annotations") or {}
        if notes.get(KIND) != ATTESTATION:
            continue
        manifest = store.manifest(entry["digest"])
        if manifest is None:
            raise user_error("provenance", f"{entry['digest']} is missing", exit_code=EX_DATAERR)
        for layer in manifest.layers:
            with store.open_blob(layer.digest) as blob:
                statement = Statement.parse(layer.digest, together.read(blob, layer.digest))
            if statement.kind.startswith(SLSA):
                found.setdefault(notes.get(OF, ""), []).append(statement)
    return found


def base_digest(statements: Iterable[Statement], image: str) -> str:
    """The digest of the base image that the build used; empty if no statement names the image."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    short = name.removeprefix("docker.io/")
    for statement in statements:
        for address, digest in statement.materials.items():
            path = unquote(address.removeprefix("pkg:docker/").partition("?")[0])
            if path in (f"{name}@{tag}", f"{short}@{tag}") and digest:
                return f"sha256:{digest}"
    return ""
