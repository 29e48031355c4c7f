"""Promote an image: copy all that belongs to a tag to another registry, then move the tag there.

That is its index, manifests and blobs, and everything that refers to them: signatures, attestations
and SBOMs. These are found by the referrers API, by the fallback tag `sha256-…`, and by the tags of
cosign, `sha256-….sig`, `.att` and `.sbom`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, Finding, UserError, user_error
from common.terminal import Say
from images.registry.client import Reference, Repository, referring
from images.registry.oci import MEDIA_TYPES, Manifest
from images.registry.transfer import BlobUploads, require_complete, run_all

COSIGN = (".sig", ".att", ".sbom")


@dataclass(frozen=True)
class Promoted:
    """The result of a promotion; `bytes` were uploaded."""

    source: str
    target: str
    digest: str
    manifests: int
    referrers: int
    bytes: int
    moved: bool


@dataclass
class _Family:
    """All manifests that belong to an image; in `order`, each follows those that it points to."""

    order: dict[str, Manifest] = field(default_factory=dict)
    referrers: dict[str, list[str]] = field(default_factory=dict)  # subject → what refers to it
    tags: dict[str, str] = field(default_factory=dict)  # cosign's tag → digest


def promote(
    source: Repository, source_at: Reference, target: Repository, target_at: Reference, say: Say
) -> Promoted:
    """Copy, check that the target has everything, move its tag. A second run copies what is left.

    Raises UserError: 69 if a registry refuses or lacks the image, 70 if something is missing in the
    end.
    """
    wanted = source_at.digest or source_at.tag
    tag = target_at.tag or source_at.tag
    if not wanted:
        raise user_error("SOURCE", f"'{source.name}' has no tag", f"{source.name}:TAG")
    if not tag or target_at.digest:
        raise user_error("TARGET", f"'{target.name}' needs a tag", f"{target.name}:TAG")
    root = source.manifest(wanted)
    if root is None:
        sign = "@" if source_at.digest else ":"
        raise user_error(
            f"{source.name}{sign}{wanted}", "there is no such image", "", EX_UNAVAILABLE
        )
    say(f"{source.name}:{wanted} is {root.digest}")
    family = _Family()
    _collect(source, [root], family)
    blobs = BlobUploads(target, say)
    for manifest in family.order.values():
        for blob in manifest.blobs:
            blobs.add(blob, partial(source.open_blob, blob.digest))
    same_host = source.name.partition("/")[0] == target.name.partition("/")[0]
    sent = blobs.push(source.name.partition("/")[2] if same_host else "")
    accounted = {
        manifest.digest
        for manifest in family.order.values()
        if target.push_manifest(manifest.digest, manifest)
    }
    for subject, digests in family.referrers.items():
        _refer(target, subject, [family.order[d] for d in digests if d not in accounted])
    for signature, digest in family.tags.items():
        if target.digest(signature) != digest:
            target.push_manifest(signature, family.order[digest])
    say("checking every manifest and blob in the registry")
    require_complete(target, family.order)
    _require_referrers(target, family)
    moved = target.digest(tag) != root.digest
    if moved:
        target.push_manifest(tag, root)
        say(f"moved {target.name}:{tag} to {root.digest[:19]}")
    referrers = {digest for digests in family.referrers.values() for digest in digests}
    return Promoted(
        f"{source.name}:{wanted}",
        f"{target.name}:{tag}",
        root.digest,
        len(family.order),
        len(referrers | set(family.tags.values())),
        sent,
        moved,
    )


def _collect(source: Repository, waiting: Iterable[Manifest], family: _Family) -> None:
    """Collect children, then the manifest, then what refers to it, recursively."""
    for manifest in waiting:
        if manifest.digest in family.order:
            continue
        _collect(source, _fetch(source, [child.digest for child in manifest.children]), family)
        family.order[manifest.digest] = manifest
        if found := referring(source, manifest.digest):
            family.referrers[manifest.digest] = found
        tags = [manifest.digest.replace(":", "-") + suffix for suffix in COSIGN]
        there = run_all(tags, source.manifest, source.stop)
        signatures = {tag: one for tag, one in zip(tags, there, strict=True) if one}
        family.tags.update({tag: one.digest for tag, one in signatures.items()})
        _collect(source, [*_fetch(source, found), *signatures.values()], family)


def _fetch(source: Repository, digests: list[str]) -> list[Manifest]:
    found = run_all(digests, source.manifest, source.stop)
    for digest, manifest in zip(digests, found, strict=True):
        if manifest is None:
            raise user_error(
                f"{source.name}@{digest}",
                "belongs to the image and is missing",
                "publish it again",
                EX_UNAVAILABLE,
            )
    return [manifest for manifest in found if manifest]


def _refer(target: Repository, subject: str, manifests: list[Manifest]) -> None:
    """Add referrers to the fallback tag `sha256-…`, for registries without the referrers API."""
    if not manifests:
        return
    tag = subject.replace(":", "-")
    there = target.manifest(tag)
    entries = list(there.document["manifests"]) if there else []
    known = {entry["digest"] for entry in entries}
    entries += [_entry(one) for one in manifests if one.digest not in known]
    if len(entries) > len(known):
        types = MEDIA_TYPES["oci"]
        document = {"schemaVersion": 2, "mediaType": types.index, "manifests": entries}
        target.push_manifest(tag, Manifest.made(document))


def _require_referrers(target: Repository, family: _Family) -> None:
    problems = [
        Finding(f"{target.name}@{subject}", f"the registry does not list its referrer {digest}")
        for subject, digests in family.referrers.items()
        for digest in set(digests).difference(referring(target, subject))
    ]
    if problems:
        raise UserError(problems, EX_SOFTWARE)


def _entry(referrer: Manifest) -> dict[str, object]:
    """A referrer as the distribution specification lists it."""
    document = referrer.document
    kind = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
    entry: dict[str, object] = {**referrer.descriptor.raw, "artifactType": kind}
    return {**entry, "annotations": referrer.annotations} if referrer.annotations else entry
