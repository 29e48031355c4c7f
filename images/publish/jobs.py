"""Publishing from the matrix: plan the images, build what is missing, push, merge."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from common.errors import EX_DATAERR, Finding, UserError, one_line
from common.terminal import Say
from images.attestations import sign
from images.build import build as builds
from images.build import push
from images.build.inputs import LABEL, Inputs
from images.build.options import Options
from images.build.targets import BuildTarget
from images.matrix import Matrix
from images.publish import built, publish
from images.publish.publish import Image, Publisher, Step
from images.registry.client import Repository
from images.registry.oci import Layout, Manifest, MediaTypes
from images.registry.transfer import run_all


@dataclass(frozen=True)
class Job:
    """The images to publish, and the repository they go to.

    With a `signer`, every image is signed, with SBOM and provenance, before its tag moves.
    """

    targets: list[BuildTarget]
    repository: Repository
    types: MediaTypes
    signer: sign.Signer | None = None

    @property
    def matrix(self) -> Matrix:
        return self.targets[0].matrix

    @property
    def options(self) -> Options:
        return self.targets[0].options

    def publisher(self, say: Say) -> Publisher:
        made = Publisher(self.repository, Layout(push.LAYOUT), self.types, say)
        if (signer := self.signer) is None:
            return made

        def attest(image: Image, arch: str, digest: str) -> None:
            """Sign the provenance, which only the machine that built the image has."""
            for one in built.read(image, self.options)[arch].provenance:
                reference = f"{self.repository.name}@{digest}"
                sign.attest(reference, one.kind, json.dumps(one.predicate), signer)

        def seal(index: Manifest) -> None:
            """Sign an index, with an SBOM of each architecture."""
            sign.index(self.matrix, self.repository, index, {}, signer, say)

        return replace(made, attest=attest, seal=seal)


def plan(job: Job) -> list[Step]:
    """A step for every image, and one for every tag of the release that would be incomplete."""
    return [*_plan(job), *_missing(job)]


def run(job: Job, allow_missing: bool, say: Say) -> list[publish.Published]:
    """Build what is missing, and publish. Raises UserError as `plan` and `Publisher.publish` do."""
    steps = _build(job, _complete_plan(job, allow_missing, say), say)
    result = job.publisher(say).publish(steps)
    _prune_layout(steps)
    return result


def run_part(job: Job, arch: str, say: Say) -> list[Step]:
    """Build and push one architecture; `merge` on another machine completes the images.

    The machine that built signs the provenance. Raises UserError as `run` does.
    """
    builds.provide_roots(job.targets, say)
    steps = [step.part(arch) for step in _plan(job)]
    _report(steps, say)
    todo = [step for step in steps if step.action in (publish.BUILD, publish.PUSH)]
    made = _build(job, todo, say)
    job.publisher(say).push_parts(made)
    _prune_layout(made)
    return steps


def merge(job: Job, allow_missing: bool, say: Say) -> list[publish.Published]:
    """Make images of the architectures that `run_part` pushed; builds nothing.

    Raises UserError as `run` does, and 65 with every architecture that is missing.
    """
    steps = _complete_plan(job, allow_missing, say)
    proven = " with a signed provenance" if job.signer else ""
    problems = [
        Finding(
            f"{job.repository.name}:{step.image.tag}",
            f"from these inputs the registry has no {arch}{proven}",
            f"invoke publish --part {arch} with the same options",
        )
        for step in steps
        if not step.digest
        for arch in step.lacking
    ]
    if problems:
        raise UserError(problems, EX_DATAERR)
    return job.publisher(say).publish(steps)


def _complete_plan(job: Job, allow_missing: bool, say: Say) -> list[Step]:
    """The plan, unless a tag of the release is incomplete and may not be."""
    fix = "publish it too: --all and every --arch, or --allow-missing"
    missing = [] if allow_missing else _missing(job)
    if missing:
        where = f"{job.repository.name}:"
        raise UserError(
            (Finding(where + step.image.tag, step.why, fix) for step in missing), EX_DATAERR
        )
    builds.provide_roots(job.targets, say)
    steps = _plan(job)
    _report(steps, say)
    return steps


def _plan(job: Job) -> list[Step]:
    def known(image: Image) -> dict[str, str]:
        return {arch: one.digest for arch, one in built.read(image, job.options).items()}

    arches = _arches(job)
    images = [Image(_tag(target), target.inputs, arches) for target in job.targets]
    return publish.plan(job.repository, images, known, job.types, proven=job.signer is not None)


def _report(steps: Iterable[Step], say: Say) -> None:
    for step in steps:
        say(one_line(f"{step.action:5} {step.image.tag}: {step.why}"))


def _prune_layout(steps: Iterable[Step]) -> None:
    if kept := [digest for step in steps for digest in step.local.values()]:
        push.prune_layout(kept)


def _tag(target: BuildTarget) -> str:
    return target.tag.rpartition(":")[2]


def _arches(job: Job) -> tuple[str, ...]:
    """In the order of the matrix."""
    chosen = {arch.name for arch in job.options.arches}
    return tuple(name for name in job.matrix.arches if name in chosen)


def _missing(job: Job) -> list[Step]:
    """The tags of the release that lack an architecture of the matrix.

    Platform cpu is not part of a release: its images are not required and require no others.
    """
    first = next((target for target in job.targets if not target.variant.cpu_vllm), None)
    if first is None:
        return []
    release = first.variant.release.name
    chosen = {_tag(target): _arches(job) for target in job.targets}
    suffix = _tag(first).removeprefix(first.variant.tag)
    tags = [one.tag + suffix for one in job.matrix.variants(release)]
    others = [tag for tag in tags if tag not in chosen]
    found = run_all(others, job.repository.manifest, job.repository.stop)
    chosen |= {tag: tuple(one.arches) for tag, one in zip(others, found, strict=True) if one}
    steps = []
    for tag in tags:
        if lacks := [arch for arch in job.matrix.arches if arch not in chosen.get(tag, ())]:
            why = f"of release {release} this is missing: {', '.join(lacks)}"
            steps.append(Step(Image(tag, Inputs(""), tuple(lacks)), publish.MISSING, why))
    return steps


def _build(job: Job, steps: list[Step], say: Say) -> list[Step]:
    """Build the architectures that neither the registry nor the layout has."""
    todo: dict[tuple[str, ...], list[Step]] = {}
    for step in steps:
        if step.action == publish.BUILD:
            arches = tuple(arch for arch in step.lacking if arch not in step.local)
            todo.setdefault(arches, []).append(step)
    by_tag = {_tag(target): target for target in job.targets}
    made: dict[str, dict[str, str]] = {}
    for arches, group in todo.items():
        chosen = [job.matrix.arch(name) for name in arches]
        targets = {by_tag[step.image.tag].for_arches(chosen): step for step in group}
        labels = {target: {LABEL: step.image.inputs.digest} for target, step in targets.items()}
        digests = builds.into_layout(list(targets), labels, say)
        for target, step in targets.items():
            known = built.remember(step.image, job.options, digests[target])
            made[step.image.tag] = {arch: one.digest for arch, one in known.items()}
    return [replace(step, local=made.get(step.image.tag, step.local)) for step in steps]
