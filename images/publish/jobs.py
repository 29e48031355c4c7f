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
from images.matrix import Matrix, Release
from images.publish import built, publish
from images.publish.publish import Image, Part, Step
from images.registry.client import Repository
from images.registry.oci import Layout, Manifest, MediaTypes
from images.registry.transfer import run_all


@dataclass(frozen=True)
class Job:
    """The images to publish, and the repository they go to.

    With a `signer`, every image is signed, with SBOM and provenance, before its tag moves.
    """

    matrix: Matrix
    release: Release
    targets: list[BuildTarget]
    options: Options
    repository: Repository
    types: MediaTypes
    signer: sign.Signer | None = None


def plan(job: Job) -> list[Step]:
    """A step for every image, and one for every tag of the release that would be incomplete."""
    images = [_image(job, target) for target in job.targets]
    parts = [part for image in images for part in _built(image, job.options)]
    steps = publish.plan(job.repository, images, parts, job.types, proven=job.signer is not None)
    return steps + _missing(job, images)


def run(job: Job, allow_missing: bool, say: Say) -> list[publish.Published]:
    """Build what is missing, and publish. Raises UserError as `plan` and `publish.publish` do."""
    steps = _complete_plan(job, allow_missing, say)
    steps = _build(job, steps, say)
    result = _publish(job, steps, say)
    _prune_layout(steps)
    return result


def run_part(job: Job, arch: str, say: Say) -> list[Step]:
    """Build and push one architecture; `merge` on another machine completes the images.

    The machine that built signs the provenance. Raises UserError as `run` does.
    """
    builds.provide_roots(job.targets, say)
    steps = [step.part(arch) for step in plan(job) if step.action != publish.MISSING]
    _report(steps, say)
    todo = [step for step in steps if step.action in (publish.BUILD, publish.PUSH)]
    made = _build(job, todo, say)
    publish.push_part(
        job.repository, made, Layout(push.LAYOUT), job.types, say, attest=_attest(job)
    )
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
    return _publish(job, steps, say)


def _publish(job: Job, steps: list[Step], say: Say) -> list[publish.Published]:
    layout = Layout(push.LAYOUT)
    return publish.publish(
        job.repository, steps, layout, job.types, say, attest=_attest(job), seal=_seal(job, say)
    )


def _attest(job: Job) -> publish.Attest | None:
    """Sign the provenance of an architecture, which only the machine that built it has."""
    if (signer := job.signer) is None:
        return None

    def attest(image: Image, arch: str, digest: str) -> None:
        for one in built.read(image, job.options)[arch].provenance:
            reference = f"{job.repository.name}@{digest}"
            sign.attest(reference, one.kind, json.dumps(one.predicate), signer)

    return attest


def _seal(job: Job, say: Say) -> publish.Seal | None:
    """Sign an index, with an SBOM of each architecture."""
    if (signer := job.signer) is None:
        return None

    def seal(index: Manifest) -> None:
        sign.index(job.matrix, job.repository, index, {}, signer, say)

    return seal


def _complete_plan(job: Job, allow_missing: bool, say: Say) -> list[Step]:
    """The plan, unless a tag of the release is incomplete and may not be."""
    builds.provide_roots(job.targets, say)
    steps = plan(job)
    missing = [step for step in steps if step.action == publish.MISSING]
    if missing and not allow_missing:
        problems = [
            Finding(
                f"{job.repository.name}:{step.image.tag}",
                step.why,
                "publish it too: --all and every --arch, or --allow-missing",
            )
            for step in missing
        ]
        raise UserError(problems, EX_DATAERR)
    steps = [step for step in steps if step.action != publish.MISSING]
    _report(steps, say)
    return steps


def _report(steps: Iterable[Step], say: Say) -> None:
    for step in steps:
        say(one_line(f"{step.action:5} {step.image.tag}: {step.why}"))


def _prune_layout(steps: Iterable[Step]) -> None:
    if kept := [digest for step in steps for digest in step.local.values()]:
        push.prune_layout(kept)


def _image(job: Job, target: BuildTarget) -> Image:
    chosen = {arch.name for arch in job.options.arches}
    arches = tuple(name for name in job.matrix.arches if name in chosen)
    tag = target.tag.rpartition(":")[2]
    return Image(tag, target.inputs, arches)


def _missing(job: Job, images: list[Image]) -> list[Step]:
    """The tags of the release that lack an architecture of the matrix.

    Platform cpu is not part of a release: its images are not required and require no others.
    """
    for_npus = [target for target in job.targets if not target.variant.cpu_vllm]
    if not for_npus:
        return []
    chosen = {image.tag: set(image.arches) for image in images}
    first = for_npus[0]
    suffix = first.tag.rpartition(":")[2].removeprefix(first.variant.tag)
    tags = [one.tag + suffix for one in job.matrix.variants(job.release.name)]
    others = [tag for tag in tags if tag not in chosen]
    found = run_all(others, job.repository.manifest, job.repository.stop)
    chosen |= {
        tag: set(one.arches) if one else set() for tag, one in zip(others, found, strict=True)
    }
    steps = []
    for tag in tags:
        if lacks := [arch for arch in job.matrix.arches if arch not in chosen[tag]]:
            why = f"of release {job.release.name} this is missing: {', '.join(lacks)}"
            steps.append(Step(Image(tag, Inputs(""), tuple(lacks)), publish.MISSING, why))
    return steps


# ---- what is built -------------------------------------------------------------------------------


def _built(image: Image, options: Options) -> list[Part]:
    return [
        Part(image.tag, arch, one.digest, image.inputs.digest)
        for arch, one in built.read(image, options).items()
    ]


def _build(job: Job, steps: list[Step], say: Say) -> list[Step]:
    """Build the architectures that neither the registry nor the layout has."""
    todo: dict[tuple[str, ...], list[Step]] = {}
    for step in steps:
        if step.action == publish.BUILD:
            arches = tuple(arch for arch in step.lacking if arch not in step.local)
            todo.setdefault(arches, []).append(step)
    made: dict[str, dict[str, str]] = {}
    for arches, group in todo.items():
        chosen = [job.matrix.arch(name) for name in arches]
        targets = {one.for_arches(chosen): step for one, step in _targets(job, group).items()}
        labels = {target: {LABEL: step.image.inputs.digest} for target, step in targets.items()}
        digests = builds.into_layout(list(targets), labels, say)
        for target, step in targets.items():
            known = built.remember(step.image, job.options, digests[target])
            made[step.image.tag] = {arch: one.digest for arch, one in known.items()}
    return [replace(step, local=made.get(step.image.tag, step.local)) for step in steps]


def _targets(job: Job, steps: Iterable[Step]) -> dict[BuildTarget, Step]:
    by_tag = {target.tag.rpartition(":")[2]: target for target in job.targets}
    return {by_tag[step.image.tag]: step for step in steps}
