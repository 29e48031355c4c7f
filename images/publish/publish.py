"""Publish images: push what the registry lacks, check that it has everything, then move tags.

The order makes it safe to stop anywhere: blobs, each manifest under a temporary tag, a check of
every manifest and blob, the index under its immutable tag, and last the tag that people use. A
second run continues.

If images are signed, an architecture gets its temporary tag after its provenance, so none lacks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial

from common.errors import EX_DATAERR, Finding, UserError, user_error
from common.terminal import Say
from images.build.inputs import LABEL, Inputs
from images.registry.client import Repository
from images.registry.oci import Layout, Manifest, MediaTypes, index, published
from images.registry.transfer import BlobUploads, collect_all, require_complete, run_all

BUILD, PUSH, MOVE, SKIP, MISSING = "build", "push", "move", "skip", "missing"
TIME = "%Y%m%dT%H%M%SZ"
TEMPORARY = re.compile(
    r"tmp-(?P<inputs>[0-9a-f]{32})-(?P<arch>\w+)-(?P<time>\d{8}T\d{6}Z)(?P<proven>-proven)?"
)


@dataclass(frozen=True)
class Image:
    """The image that a tag will name."""

    tag: str
    inputs: Inputs
    arches: tuple[str, ...]

    @property
    def immutable_tag(self) -> str:
        return f"{self.tag}-{self.inputs.digest[:12]}"

    def temporary_tag(self, arch: str, now: datetime, proven: bool) -> str:
        """Keeps an architecture from garbage collection until the index has it. Shows whether its
        provenance is attested."""
        tag = f"tmp-{self.inputs.digest[:32]}-{arch}-{now.strftime(TIME)}"
        return f"{tag}-proven" if proven else tag


@dataclass(frozen=True)
class Part:
    """One built architecture: a manifest in an OCI layout."""

    tag: str
    arch: str
    digest: str
    inputs: str


@dataclass(frozen=True)
class Step:
    """What to do for a tag, and why.

    `digest` is the index if it is published already; `parts` are the architectures under temporary
    tags in the registry, `local` those in a layout.
    """

    image: Image
    action: str
    why: str
    digest: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    local: Mapping[str, str] = field(default_factory=dict)

    @property
    def lacking(self) -> list[str]:
        """The architectures to push."""
        return [arch for arch in self.image.arches if arch not in self.parts]

    def part(self, arch: str) -> Step:
        """What to do for one architecture before the tag can move."""
        alone = replace(self, image=replace(self.image, arches=(arch,)))
        if self.digest:
            return alone
        if arch in self.parts:
            return replace(alone, action=SKIP, why=f"the registry has {arch}")
        action = PUSH if arch in self.local else BUILD
        return replace(alone, action=action, why=f"the registry lacks {arch}")


Attest = Callable[[Image, str, str], None]  # an architecture's manifest, by digest
Seal = Callable[[Manifest], None]  # an index


@dataclass(frozen=True)
class Published:
    """A tag in the registry, after publishing."""

    tag: str
    immutable_tag: str
    digest: str
    arches: tuple[str, ...]
    action: str


# ---- what is to be done --------------------------------------------------------------------------


def plan(
    repository: Repository,
    images: Iterable[Image],
    parts: Iterable[Part],
    types: MediaTypes,
    proven: bool = False,
) -> list[Step]:
    """Compare the images with the registry and with what is built. Changes nothing.

    With `proven`, an architecture without an attested provenance counts as missing.

    Raises UserError (65) if an immutable tag belongs to another image.
    """
    found = [match for tag in repository.tags() if (match := TEMPORARY.fullmatch(tag))]
    temporary = [tag for tag in found if tag["proven"] or not proven]
    local: dict[tuple[str, str], dict[str, str]] = {}
    for part in parts:
        local.setdefault((part.tag, part.inputs), {})[part.arch] = part.digest

    def step(image: Image) -> Step:
        built = local.get((image.tag, image.inputs.digest), {})
        return _step(repository, image, temporary, built, types)

    return collect_all(images, step, repository.stop)


def _step(
    repository: Repository,
    image: Image,
    temporary: Iterable[re.Match[str]],
    local: Mapping[str, str],
    types: MediaTypes,
) -> Step:
    kept = repository.manifest(image.immutable_tag)
    current = repository.manifest(image.tag)
    if kept and not _is(kept, image):
        raise _immutable(repository, image, kept.digest)
    final = kept or (current if current and LABEL in current.annotations else None)
    if final and _is(final, image):
        if kept and current and kept.digest == current.digest:
            return Step(image, SKIP, "published from the same inputs", final.digest)
        why = f"{image.immutable_tag} exists" if kept else f"{image.immutable_tag} is missing"
        return Step(image, MOVE, why, final.digest)
    parts = _parts(repository, image, temporary, types)
    changed = _changed(current, image)
    lacking = [arch for arch in image.arches if arch not in parts]
    if not lacking:
        return Step(image, MOVE, f"{changed}; the registry has all architectures", parts=parts)
    if all(arch in local for arch in lacking):
        why = f"{changed}; built here, not in the registry: {', '.join(lacking)}"
        return Step(image, PUSH, why, parts=parts, local=local)
    return Step(image, BUILD, changed, parts=parts, local=local)


def _is(found: Manifest, image: Image) -> bool:
    """Whether a published index is this image; without an annotation, its tag decides."""
    says = found.annotations.get(LABEL, image.inputs.digest)
    return says == image.inputs.digest and set(found.arches) == set(image.arches)


def _parts(
    repository: Repository,
    image: Image,
    temporary: Iterable[re.Match[str]],
    types: MediaTypes,
) -> dict[str, str]:
    """Architecture → digest under a temporary tag; the oldest of several."""
    result: dict[str, str] = {}
    for tag in sorted(temporary, key=lambda one: one["time"]):
        arch = tag["arch"]
        if tag["inputs"] != image.inputs.digest[:32] or arch not in image.arches or arch in result:
            continue
        found = repository.manifest(tag.string)
        if found and found.media_type == types.manifest:
            result[arch] = found.digest
    return result


def _changed(current: Manifest | None, image: Image) -> str:
    if current is None:
        return "not published yet"
    if stages := image.inputs.changed(current.annotations):
        return f"differs in {', '.join(stages)}"
    if lacks := [arch for arch in image.arches if arch not in current.arches]:
        return f"the published one lacks {', '.join(lacks)}"
    return "the published one is made from other inputs"


def _immutable(repository: Repository, image: Image, digest: str) -> UserError:
    return user_error(
        f"{repository.name}:{image.immutable_tag}",
        f"is another image, {digest}, and this tag is never moved",
        "find out who pushed it; --release or other pins make another tag",
        EX_DATAERR,
    )


# ---- doing it ------------------------------------------------------------------------------------


def publish(
    repository: Repository,
    steps: Iterable[Step],
    layout: Layout,
    types: MediaTypes,
    say: Say,
    now: datetime | None = None,
    attest: Attest | None = None,
    seal: Seal | None = None,
) -> list[Published]:
    """Carry out a plan. What is to be built must be in the layout.

    `attest` is called with each architecture before it gets its temporary tag, `seal` with each
    index before its tag moves.

    Raises UserError: 65 for a layout that does not fit, 69 if the registry refuses, 70 if something
    is missing there in the end. No tag has moved then.
    """
    steps = list(steps)
    todo = [step for step in steps if step.action != SKIP]
    parts = _push(repository, todo, layout, types, say, now, attest)
    if todo:
        say("checking every manifest and blob in the registry")
    digests = [digest for step in todo for digest in parts.get(step.image.tag, {}).values()]
    found = require_complete(repository, [*digests, *(step.digest for step in todo if step.digest)])
    indexes = {step.image.tag: _index(step, parts, found, types) for step in todo}
    _set_immutable_tags(repository, todo, indexes)
    if seal:
        for step in todo:
            seal(indexes[step.image.tag])
    for step in todo:
        repository.push_manifest(step.image.tag, indexes[step.image.tag])
        say(f"moved {step.image.tag} to {indexes[step.image.tag].digest[:19]}")
    return [
        Published(
            step.image.tag,
            step.image.immutable_tag,
            step.digest or indexes[step.image.tag].digest,
            step.image.arches,
            step.action,
        )
        for step in steps
    ]


def push_part(
    repository: Repository,
    steps: Iterable[Step],
    layout: Layout,
    types: MediaTypes,
    say: Say,
    now: datetime | None = None,
    attest: Attest | None = None,
) -> None:
    """Push what is missing under temporary tags; move no tag that people use.

    Raises UserError as `publish` does.
    """
    parts = _push(repository, steps, layout, types, say, now, attest)
    say("checking every manifest and blob in the registry")
    require_complete(repository, [digest for one in parts.values() for digest in one.values()])


def _push(
    repository: Repository,
    steps: Iterable[Step],
    layout: Layout,
    types: MediaTypes,
    say: Say,
    now: datetime | None,
    attest: Attest | None,
) -> dict[str, dict[str, str]]:
    """Push what is missing under temporary tags; return tag → architecture → digest."""
    now = now or datetime.now(timezone.utc)
    blobs = BlobUploads(repository, say)
    lacking: list[tuple[Image, str, Manifest]] = []
    parts: dict[str, dict[str, str]] = {}
    for step in steps:
        if step.digest:
            continue
        image, digests = step.image, dict(step.parts)
        for arch in step.lacking:
            annotations = {LABEL: image.inputs.digest}
            manifest = published(layout, step.local[arch], arch, types, annotations)
            for blob in manifest.blobs:
                blobs.add(blob, partial(layout.open, blob.digest))
            lacking.append((image, arch, manifest))
            digests[arch] = manifest.digest
        parts[image.tag] = {arch: digests[arch] for arch in image.arches}
    blobs.push()

    def push(one: tuple[Image, str, Manifest]) -> None:
        image, arch, manifest = one
        if attest:
            repository.push_manifest(manifest.digest, manifest)
            attest(image, arch, manifest.digest)
        tag = image.temporary_tag(arch, now, proven=attest is not None)
        repository.push_manifest(tag, manifest)

    run_all(lacking, push, repository.stop)
    return parts


def _index(
    step: Step,
    parts: Mapping[str, Mapping[str, str]],
    found: Mapping[str, Manifest],
    types: MediaTypes,
) -> Manifest:
    if step.digest:
        return found[step.digest]
    own = {arch: found[digest].descriptor for arch, digest in parts[step.image.tag].items()}
    return index(types, own, step.image.inputs.annotations)


def _set_immutable_tags(
    repository: Repository, steps: Iterable[Step], indexes: Mapping[str, Manifest]
) -> None:
    """Give every index its immutable tag, unless one of these tags belongs to another image."""
    steps = list(steps)
    there = run_all(
        steps, lambda step: repository.digest(step.image.immutable_tag), repository.stop
    )
    problems: list[Finding] = []
    for step, digest in zip(steps, there, strict=True):
        if digest not in (None, indexes[step.image.tag].digest):
            problems += _immutable(repository, step.image, str(digest)).findings
    if problems:
        raise UserError(problems, EX_DATAERR)
    for step, digest in zip(steps, there, strict=True):
        if digest is None:
            repository.push_manifest(step.image.immutable_tag, indexes[step.image.tag])
