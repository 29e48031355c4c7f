"""Lists of contents that are attached to an image, as they are or in a signed attestation.

No signature is verified here: `invoke conformance` does that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from images.attestations.provenance import Statement
from images.inspect.model import Sbom
from images.inspect.stores import Store
from images.registry import limits
from images.registry.client import referring
from images.registry.oci import Descriptor, Manifest

KINDS = {"spdx": "SPDX", "cyclonedx": "CycloneDX"}  # by a part of the type's name
ATTESTATIONS = ("dsse.envelope", "sigstore.bundle")
COSIGN = ".att"  # of cosign's tag for attestations


def sboms(store: Store, *subjects: Manifest) -> Iterator[Sbom]:
    """The lists of an image or of its index, each once. Raises UserError (65, 69)."""
    found: dict[str, Sbom] = {}
    lists, statements = limits.Together("list of contents"), limits.Together("statement")
    for subject in dict.fromkeys(subjects):
        for manifest in _attached(store, subject.digest):
            for layer in manifest.layers:
                sbom = _sbom(store, layer, lists, statements)
                if sbom:
                    found.setdefault(sbom.digest, sbom)
    yield from found.values()


def _attached(store: Store, digest: str) -> list[Manifest]:
    """What refers to an image, also by cosign's own tag."""
    references = (*referring(store, digest), f"{digest.replace(':', '-')}{COSIGN}")
    manifests = [store.manifest(one) for one in references]
    return list(dict.fromkeys(one for one in manifests if one is not None))


def _sbom(
    store: Store, layer: Descriptor, lists: limits.Together, statements: limits.Together
) -> Sbom | None:
    digest, kind = layer.digest, _kind(layer.media_type)
    if not (kind or any(name in layer.media_type for name in ATTESTATIONS)):
        return None
    with store.open_blob(digest) as file:
        content = (lists if kind else statements).read(file, digest)
    if kind:
        return Sbom(kind, digest, content)
    statement = Statement.signed(digest, content)
    kind = _kind(statement.kind)
    text = json.dumps(statement.predicate, indent=1, sort_keys=True) + "\n"
    return Sbom(f"{kind}, signed", digest, text.encode()) if kind else None


def _kind(name: str) -> str:
    return next((kind for part, kind in KINDS.items() if part in name.lower()), "")
