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
    built: Callable[[Image], Mapping[str, str]],
    types: MediaTypes,
    proven: bool = False,
) -> list[Step]:
    """Compare the images with the registry and with what is `built`: architecture → digest.

    Changes nothing. With `proven`, an architecture without an attested provenance counts as
    missing. Raises UserError (65) if an immutable tag belongs to another image.
    """
    found = [match for tag in repository.tags() if (match := TEMPORARY.fullmatch(tag))]
    temporary = sorted(
        (tag for tag in found if tag["proven"] or not proven), key=lambda tag: tag["time"]
    )

    def parts(image: Image) -> dict[str, str]:
        """Architecture → digest under a temporary tag; the oldest of several."""
        result: dict[str, str] = {}
        for tag in temporary:
            if tag["inputs"] == image.inputs.digest[:32] and tag["arch"] in image.arches:
                there = None if tag["arch"] in result else repository.manifest(tag.string)
                if there and there.media_type == types.manifest:
                    result[tag["arch"]] = there.digest
        return result

    def step(image: Image) -> Step:
        kept = repository.manifest(image.immutable_tag)
        current = repository.manifest(image.tag)
        if kept and not _is(kept, image):
            raise _immutable(repository, image, kept.digest)
        final = kept or (current if current and LABEL in current.annotations else None)
        if final and _is(final, image):
            if kept and current and kept.digest == current.digest:
                return Step(image, SKIP, "published from the same inputs", final.digest)
            why = f"{image.immutable_tag} {'exists' if kept else 'is missing'}"
            return Step(image, MOVE, why, final.digest)
        there, local = parts(image), built(image)
        changed = _changed(current, image)
        lacking = [arch for arch in image.arches if arch not in there]
        if not lacking:
            return Step(image, MOVE, f"{changed}; the registry has all architectures", parts=there)
        if all(arch in local for arch in lacking):
            why = f"{changed}; built here, not in the registry: {', '.join(lacking)}"
            return Step(image, PUSH, why, parts=there, local=local)
        return Step(image, BUILD, changed, parts=there, local=local)

    return collect_all(images, step, repository.stop)


def _is(found: Manifest, image: Image) -> bool:
    """Whether a published index is this image; without an annotation, its tag decides."""
    says = found.annotations.get(LABEL, image.inputs.digest)
    return says == image.inputs.digest and set(found.arches) == set(image.arches)


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


@dataclass(frozen=True)
class Publisher:
    """A repository, and how the images of a layout get there.

    `attest` is called with each architecture's manifest, by digest, before it gets its temporary
    tag, and `seal` with each index before its tag moves.

    Methods raise UserError: 65 for a layout that does not fit, 69 if the registry refuses, 70 if
    something is missing there in the end. No tag has moved then.
    """

    repository: Repository
    layout: Layout
    types: MediaTypes
    say: Say
    attest: Callable[[Image, str, str], None] | None = None
    seal: Callable[[Manifest], None] | None = None
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def publish(self, steps: Iterable[Step]) -> list[Published]:
        """Carry out a plan. What is to be built must be in the layout."""
        steps = list(steps)
        todo = [step for step in steps if step.action != SKIP]
        parts = self._push(todo)
        found = self._require(parts, (step.digest for step in todo if step.digest))
        indexes = {step.image.tag: self._index(step, parts, found) for step in todo}
        self._set_immutable_tags(todo, indexes)
        if self.seal:
            for index in indexes.values():
                self.seal(index)
        for tag, index in indexes.items():
            self.repository.push_manifest(tag, index)
            self.say(f"moved {tag} to {index.digest[:19]}")
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

    def push_parts(self, steps: Iterable[Step]) -> None:
        """Push what is missing under temporary tags; move no tag that people use."""
        self._require(self._push(steps))

    def _push(self, steps: Iterable[Step]) -> dict[str, dict[str, str]]:
        """Push what is missing under temporary tags; return tag → architecture → digest."""
        blobs = BlobUploads(self.repository, self.say)
        lacking: list[tuple[Image, str, Manifest]] = []
        parts: dict[str, dict[str, str]] = {}
        for step in steps:
            if step.digest:
                continue
            image, digests = step.image, dict(step.parts)
            for arch in step.lacking:
                notes = {LABEL: image.inputs.digest}
                manifest = published(self.layout, step.local[arch], arch, self.types, notes)
                for blob in manifest.blobs:
                    blobs.add(blob, partial(self.layout.open, blob.digest))
                lacking.append((image, arch, manifest))
                digests[arch] = manifest.digest
            parts[image.tag] = {arch: digests[arch] for arch in image.arches}
        blobs.push()

        def push(one: tuple[Image, str, Manifest]) -> None:
            image, arch, manifest = one
            if self.attest:
                self.repository.push_manifest(manifest.digest, manifest)
                self.attest(image, arch, manifest.digest)
            tag = image.temporary_tag(arch, self.now, proven=self.attest is not None)
            self.repository.push_manifest(tag, manifest)

        run_all(lacking, push, self.repository.stop)
        return parts

    def _require(
        self, parts: Mapping[str, Mapping[str, str]], others: Iterable[str] = ()
    ) -> dict[str, Manifest]:
        """Digest → manifest of everything; all blobs were found too."""
        digests = [digest for one in parts.values() for digest in one.values()]
        if digests := [*digests, *others]:
            self.say("checking every manifest and blob in the registry")
        return require_complete(self.repository, digests)

    def _index(
        self, step: Step, parts: Mapping[str, Mapping[str, str]], found: Mapping[str, Manifest]
    ) -> Manifest:
        if step.digest:
            return found[step.digest]
        own = {arch: found[digest].descriptor for arch, digest in parts[step.image.tag].items()}
        return index(self.types, own, step.image.inputs.annotations)

    def _set_immutable_tags(self, steps: list[Step], indexes: Mapping[str, Manifest]) -> None:
        """Give every index its immutable tag, unless one of these tags belongs to another image."""
        tags = [step.image.immutable_tag for step in steps]
        there = run_all(tags, self.repository.digest, self.repository.stop)
        problems: list[Finding] = []
        for step, digest in zip(steps, there, strict=True):
            if digest not in (None, indexes[step.image.tag].digest):
                problems += _immutable(self.repository, step.image, str(digest)).findings
        if problems:
            raise UserError(problems, EX_DATAERR)
        for step, digest in zip(steps, there, strict=True):
            if digest is None:
                self.repository.push_manifest(step.image.immutable_tag, indexes[step.image.tag])
