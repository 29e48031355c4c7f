"""Commands that bring images to a registry."""

from __future__ import annotations

from pathlib import Path

from invoke import Context, task

from commands.common import (
    BASE,
    CERTIFICATES,
    FORMAT,
    OS,
    PLATFORM,
    RELEASE,
    data,
    environ,
    problems_in_plain_words,
    say,
    words,
)


@task(
    auto_shortflags=False,
    help={
        "registry": "registry and namespace: registry.example.com/team",
        "platform": PLATFORM,
        "all": "every platform and OS of the release",
        "release": RELEASE,
        "os": OS,
        "arch": "arm64,amd64 (default: all of the matrix)",
        "base": BASE + "; default: the published CANN image",
        "plan": "show for every tag what would be done, and why; change nothing",
        "allow-missing": "publish although the release would lack a platform, an OS or an arch",
        "part": "arm64 or amd64: build and push only this, and move no tag; --merge does",
        "merge": "build nothing: make the images of the parts that are in the registry",
        "media-types": "oci (default), or docker for a registry that refuses an OCI index",
        "cann-packages": "a directory of CANN's .run installers and SHA256SUMS",
        "share-cann": "as build has it",
        "tools": "as build has it",
        "builder": "a buildx builder with a node for each architecture",
        "compression": "zstd (default) or gzip; with docker's media types gzip",
        "source": "as build has it; repeatable",
        "engine": "as build has it",
        "wheels": "as build has it",
        "key": "sign with this private key: a file, env://NAME, a KMS",
        "keyless": "sign with the identity of the CI job",
        "offline": "leave the transparency log out; only with --key",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
    iterable=["source"],
)
def publish(
    c: Context,
    registry: str = "",
    platform: str = "",
    all: bool = False,
    release: str | None = None,
    os: str = "ubuntu22.04",
    arch: str = "",
    base: str | None = None,
    plan: bool = False,
    allow_missing: bool = False,
    part: str = "",
    merge: bool = False,
    media_types: str = "oci",
    cann_packages: str | None = None,
    share_cann: bool = False,
    tools: str | None = None,
    builder: str | None = None,
    compression: str = "zstd",
    source: list[str] | None = None,
    engine: str | None = None,
    wheels: str | None = None,
    key: str = "",
    keyless: bool = False,
    offline: bool = False,
    certificates: str | None = None,
    format: str = "text",
) -> None:
    """Publish multi-arch images: invoke publish --registry registry.example.com/team --all

    Builds and pushes what the registry lacks; a tag moves when all of its image is there. Cut off
    and run again, it goes on from where it was.
    """
    with problems_in_plain_words():
        from common.errors import user_error
        from images.attestations import sign
        from images.build import options as how
        from images.build import targets
        from images.matrix import load
        from images.mirrors import Mirrors
        from images.names import REPOSITORY
        from images.publish import parts, report
        from images.registry import oci
        from images.registry.client import HttpRepository, Reference

        matrix = load()
        types = oci.media_types(media_types)
        if sum((plan, bool(part), merge)) > 1:
            raise user_error("--part", "--merge and --plan exclude each other", "choose one")
        mirrors = Mirrors.of(environ(), certificates=certificates)
        name = Reference.parse(f"{registry.rstrip('/')}/{REPOSITORY}", "--registry")
        options = how.Options(
            arches=how.arches(matrix, words(arch) or [*matrix.arches]),
            base=base,
            cann_packages=Path(cann_packages) if cann_packages else None,
            share_cann=share_cann,
            tools=tools,
            registry=registry,
            push=True,
            builder=builder,
            compression=compression if types.annotations else "gzip",
            sources=how.sources(source or []),
            wheels=how.wheels(wheels),
            mirrors=mirrors,
        )
        variants = how.chosen(matrix, release, words(platform), words(os), all, engine)
        job = parts.Job(
            matrix,
            matrix.release(release),
            targets.resolve(matrix, variants, options, say),
            options,
            HttpRepository(name.repository, certificates=mirrors.certificates),
            types,
            sign.Signer(key, offline, mirrors.certificates) if key or keyless or offline else None,
        )
        if not (plan or job.signer):
            say("nothing is signed: --key FILE, or --keyless in CI")
        if plan:
            steps = parts.plan(job)
            data(format, report.plan_data(steps), lambda: report.plan_text(steps))
            return
        if part:
            steps = parts.run_part(job, matrix.arch(part).name, say)
            data(format, report.plan_data(steps), lambda: report.plan_text(steps))
            return
        done = (parts.merge if merge else parts.run)(job, allow_missing, say)
        data(format, report.published_data(done), lambda: report.published_text(done))


@task(
    auto_shortflags=False,
    positional=["source", "target"],
    help={
        "source": "what to copy: registry.example.com/staging/vllm-ascend:TAG, or @DIGEST",
        "target": "where to: registry.example.com/team/vllm-ascend, with another :TAG if wanted",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
)
def promote(
    c: Context, source: str, target: str, certificates: str | None = None, format: str = "text"
) -> None:
    """Copy an image and its signatures between registries: invoke promote SRC DST

    By digest, with everything that belongs to the tag; the target's tag moves when all is there.
    """
    with problems_in_plain_words():
        from images.mirrors import Mirrors
        from images.publish import promote as promotion
        from images.publish import report
        from images.registry.client import HttpRepository, Reference

        bundle = Mirrors.of(environ(), certificates=certificates).certificates
        ends = Reference.parse(source, "SRC"), Reference.parse(target, "DST")
        here, there = (HttpRepository(one.repository, certificates=bundle) for one in ends)
        done = promotion.promote(here, ends[0], there, ends[1], say)
        data(format, vars(done), lambda: report.promoted_text(done))


@task(
    auto_shortflags=False,
    help={
        "registry": "the repository: registry.example.com/team/vllm-ascend",
        "older": "temporary tags older than this go, whatever they point to: 30m, 24h, 7d",
        "dry-run": "show what would be deleted; delete nothing",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
)
def prune(
    c: Context,
    registry: str = "",
    older: str = "24h",
    dry_run: bool = False,
    certificates: str | None = None,
    format: str = "text",
) -> None:
    """Delete temporary tags of publish: invoke prune --registry registry.example.com/team/NAME"""
    with problems_in_plain_words():
        from images.mirrors import Mirrors
        from images.publish import prune as pruning
        from images.publish import report
        from images.registry.client import HttpRepository, Reference

        bundle = Mirrors.of(environ(), certificates=certificates).certificates
        name = Reference.parse(registry, "--registry").repository
        repository = HttpRepository(name, certificates=bundle)
        found = pruning.plan(repository, pruning.age(older))
        if not dry_run:
            pruning.prune(repository, found, say)
        verb = "would delete" if dry_run else "deleted"
        data(format, report.temporary_data(found), lambda: report.temporary_text(found, verb))


@task(
    auto_shortflags=False,
    help={
        "image": "registry.example.com/team/vllm-ascend:TAG, or @DIGEST",
        "key": "private key: a file, env://NAME, a KMS (default: the identity of the CI job)",
        "offline": "leave the transparency log out; only with --key",
        "certificates": CERTIFICATES,
    },
)
def sign(
    c: Context, image: str, key: str = "", offline: bool = False, certificates: str | None = None
) -> None:
    """Sign a published image, with its SBOM and provenance: invoke sign IMAGE

    In CI without a key; elsewhere with --key and COSIGN_PASSWORD.
    """
    with problems_in_plain_words():
        from images.attestations import sign as signing
        from images.matrix import load
        from images.mirrors import Mirrors
        from images.registry.client import HttpRepository, Reference

        bundle = Mirrors.of(environ(), certificates=certificates).certificates
        signer = signing.Signer(key, offline, bundle)
        at = Reference.parse(image, "IMAGE")
        print(
            signing.image(
                load(), HttpRepository(at.repository, certificates=bundle), at, signer, say
            )
        )
