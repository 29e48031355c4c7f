"""Commands that bring images to a registry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from commands.build import INPUTS
from commands.command import argument, command, option, output, say
from commands.options import (
    ARCH_NAMES,
    CERTIFICATES,
    DRY_RUN,
    FORMAT,
    PUBLISHED,
    BuildOptions,
    trusted,
    words,
)

if TYPE_CHECKING:
    from images.registry.client import HttpRepository, Reference

TRANSPARENCY_LOG = option("omit the transparency log; only with --key", default=True)


@command(
    only=(*INPUTS, "registry", "compression"),
    help={
        "registry": "registry and namespace: registry.example.com/team",
        "arch": "arm64,amd64 (default: all of the matrix)",
        "builder": "a buildx builder with a node for each architecture",
        "compression": "zstd (default) or gzip; with docker's media types gzip",
    },
)
def publish(
    options: BuildOptions,
    dry_run: bool = option("show for every tag what would be done, and why; change nothing"),
    allow_missing: bool = option(
        "publish a release that lacks a platform, an OS or an architecture"
    ),
    part: str = option("build and push only this architecture; move no tag", ARCH_NAMES),
    merge: bool = option("build nothing: assemble images from the parts in the registry"),
    media_types: str = option(
        "oci, or docker for a registry that refuses an OCI index",
        ("oci", "docker"),
        default="oci",
    ),
    key: str = option("sign with this private key: a file, env://NAME, a KMS"),
    keyless: bool = option("sign with the identity of the CI job"),
    transparency_log: bool = TRANSPARENCY_LOG,
    format: str = FORMAT,
) -> None:
    """Build and push multi-arch images

    Builds and pushes what the registry lacks; moves a tag once its image is complete. When
    interrupted, run it again: it continues where it stopped.

        invoke publish --registry registry.example.com/team --all
    """
    from common.errors import user_error
    from images.attestations import sign
    from images.build import targets
    from images.matrix import load
    from images.names import REPOSITORY
    from images.publish import jobs, publish_output
    from images.registry import oci
    from images.registry.client import HttpRepository, Reference

    matrix = load()
    types = oci.media_types(media_types)
    if sum((dry_run, bool(part), merge)) > 1:
        raise user_error("--part", "--merge and --dry-run exclude each other", "choose one")
    name = Reference.parse(f"{options.registry.rstrip('/')}/{REPOSITORY}", "--registry")
    options = dataclasses.replace(
        options,
        arch=options.arch or ",".join(matrix.arches),
        push=True,
        compression=options.compression if types.annotations else "gzip",
    )
    how = options.options(matrix)
    job = jobs.Job(
        targets.resolve(matrix, options.variants(matrix), how, say),
        HttpRepository(name.repository, certificates=how.mirrors.certificates, say=say),
        types,
        sign.Signer(key, not transparency_log, how.mirrors.certificates)
        if key or keyless or not transparency_log
        else None,
    )
    if not (dry_run or job.signer):
        say("nothing is signed: --key FILE, or --keyless in CI")
    if dry_run or part:
        steps = jobs.plan(job) if dry_run else jobs.run_part(job, matrix.arch(part).name, say)
        output(format, publish_output.plan_data(steps), lambda: publish_output.plan_text(steps))
        return
    done = (jobs.merge if merge else jobs.run)(job, allow_missing, say)
    output(format, publish_output.published_data(done), lambda: publish_output.published_text(done))


def _repository(text: str, where: str, certificates: str) -> tuple[HttpRepository, Reference]:
    """The repository of an image, and the image's reference. Raises UserError at `where`."""
    from images.registry.client import HttpRepository, Reference

    at = Reference.parse(text, where)
    return HttpRepository(at.repository, certificates=trusted(certificates), say=say), at


@command
def promote(
    source: str = argument("registry.example.com/staging/vllm-ascend:TAG, or @DIGEST"),
    target: str = argument("registry.example.com/team/vllm-ascend, with another :TAG if wanted"),
    certificates: str = CERTIFICATES,
    format: str = FORMAT,
) -> None:
    """Copy an image and its signatures to another registry

    Copies by digest, with everything that belongs to the tag; moves the target's tag last.

        invoke promote SOURCE TARGET
    """
    from images.publish import promote as promotion
    from images.publish import publish_output

    ends = (
        *_repository(source, "SOURCE", certificates),
        *_repository(target, "TARGET", certificates),
    )
    done = promotion.promote(*ends, say)
    output(format, vars(done), lambda: publish_output.promoted_text(done))


@command
def prune(
    registry: str = option("the repository: registry.example.com/team/vllm-ascend"),
    older: str = option("delete temporary tags older than this: 30m, 24h, 7d", default="24h"),
    dry_run: bool = DRY_RUN,
    certificates: str = CERTIFICATES,
    format: str = FORMAT,
) -> None:
    """Delete the temporary tags that publish leaves

    invoke prune --registry registry.example.com/team/vllm-ascend
    """
    from images.publish import prune as pruning
    from images.publish import publish_output

    repository, _ = _repository(registry, "--registry", certificates)
    found = pruning.plan(repository, pruning.age(older))
    if not dry_run:
        pruning.prune(repository, found, say)
    verb = "would delete" if dry_run else "deleted"
    output(
        format,
        publish_output.temporary_data(found),
        lambda: publish_output.temporary_text(found, verb),
    )


@command
def sign(
    image: str = PUBLISHED,
    key: str = option("private key: a file, env://NAME, a KMS (default: the CI job's identity)"),
    transparency_log: bool = TRANSPARENCY_LOG,
    certificates: str = CERTIFICATES,
) -> None:
    """Sign a published image, its SBOM and its provenance

    In CI without a key; elsewhere with --key and COSIGN_PASSWORD.

        invoke sign IMAGE --key cosign.key
    """
    from images.attestations import sign as signing
    from images.matrix import load

    signer = signing.Signer(key, not transparency_log, trusted(certificates))
    repository, at = _repository(image, "IMAGE", certificates)
    print(signing.image(load(), repository, at, signer, say))


@command
def conformance(
    image: str = PUBLISHED,
    key: str = option("public key that must have signed: a file, env://NAME, a KMS"),
    identity: str = option("instead of a key: the CI workflow that must have signed"),
    issuer: str = option("the identity's issuer: https://token.actions.githubusercontent.com"),
    arch: str = option("the architectures it must have (default: all of the matrix)", ARCH_NAMES),
    provenance: bool = option("accept an image that does not say how it was built", default=True),
    transparency_log: bool = TRANSPARENCY_LOG,
    unsigned: bool = option("read the layers even when no trusted signature covers the image"),
    certificates: str = CERTIFICATES,
    format: str = FORMAT,
) -> None:
    """Check whether a published image is what the matrix says

    Checks signature, provenance, SBOM against contents, labels against the matrix, platforms,
    layers, secrets. Exits with 65 when anything is wrong, and reports everything at once.

        invoke conformance IMAGE --key cosign.pub
    """
    from common.errors import EX_DATAERR, UserError
    from images.attestations.sign import Trust
    from images.conformance import outcomes_output
    from images.conformance.check import Requirements, check_image
    from images.matrix import load

    matrix = load()
    trust = Trust(key, identity, issuer, not transparency_log, trusted(certificates))
    arches = [matrix.arch(name).name for name in words(arch) or matrix.arches]
    repository, at = _repository(image, "IMAGE", certificates)
    wanted = Requirements(arches, trust, provenance, unsigned)
    report = check_image(matrix, repository, at, wanted, say)
    output(format, outcomes_output.report_data(report), lambda: outcomes_output.report_text(report))
    if report.problems:
        raise UserError(report.problems, EX_DATAERR)
