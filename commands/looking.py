"""Commands that look at images, built or published."""

from __future__ import annotations

from pathlib import Path

from invoke import Context, task

from commands.common import (
    CERTIFICATES,
    FORMAT,
    data,
    environ,
    problems_in_plain_words,
    say,
    words,
)


@task(
    auto_shortflags=False,
    help={
        "image": "a tag in the engine or a registry, or an OCI layout: DIR, DIR:TAG, DIR@DIGEST",
        "arch": "arm64, amd64 or both (default: all that the image has)",
        "at": "look only there: layout, engine or registry (default: in this order)",
        "brief": "read the manifest and no layer: no packages, roles and recipes",
        "with": "another image to compare the layers with; repeatable",
        "diff": "an image: say what changed from it to IMAGE",
        "budget": "hold the image to images/build/budgets.yaml; 65 when it is over",
        "baseline": "print the image's sizes as an entry of images/build/budgets.yaml",
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
        from images.build import budgets
        from images.inspect import budget as measured
        from images.inspect import diff as diffs
        from images.inspect import gather, show
        from images.matrix import load
        from images.mirrors import Mirrors

        matrix = load()
        known = budgets.load(matrix)
        arches = [matrix.arch(name).name for name in words(arch)]
        before, found = gather.compared(
            [diff] if diff else [],
            [image],
            arches=arches,
            at=at,
            brief=brief or budget or baseline,
            beside=with_ or [],
            certificates=Mirrors.of(environ(), certificates=certificates).certificates,
            say=say,
        )
        if budget:
            verdicts = measured.verdicts(known, found)
            data(format, show.verdicts_data(verdicts), lambda: show.verdicts_text(verdicts))
            budgets.enforce(verdicts)
        elif baseline:
            entries = measured.entries(found)
            data(format, entries, lambda: measured.entries_text(entries))
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
        from images.attestations import sbom as sboms
        from images.inspect.places import opened
        from images.matrix import load
        from images.mirrors import Mirrors

        matrix = load()
        arches = [matrix.arch(name).name for name in words(arch)]
        bundle = Mirrors.of(environ(), certificates=certificates).certificates
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
        "key": "public key that must have signed: a file, env://NAME, a KMS",
        "identity": "instead of a key: the CI workflow that must have signed",
        "issuer": "who vouches for the identity: https://token.actions.githubusercontent.com",
        "arch": "the architectures it must have (default: all of the matrix)",
        "provenance": "--no-provenance accepts an image that does not say how it was built",
        "unsigned": "read the layers even when no trusted signature covers the image",
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
    unsigned: bool = False,
    offline: bool = False,
    certificates: str | None = None,
    format: str = "text",
) -> None:
    """Check a published image before it runs: invoke check IMAGE --key cosign.pub

    Signature, provenance, SBOM against contents, labels against the matrix, platforms, layers,
    secrets. Exits with 65 when anything is wrong, and names all of it.
    """
    with problems_in_plain_words():
        from common.errors import EX_DATAERR, UserError
        from images.attestations.sign import Trust
        from images.conformance import run, show
        from images.matrix import load
        from images.mirrors import Mirrors
        from images.registry.client import HttpRepository, Reference

        matrix = load()
        bundle = Mirrors.of(environ(), certificates=certificates).certificates
        trust = Trust(key, identity, issuer, offline, bundle)
        arches = [matrix.arch(name).name for name in words(arch) or matrix.arches]
        at = Reference.parse(image, "IMAGE")
        repository = HttpRepository(at.repository, certificates=bundle)
        wanted = run.Wanted(arches, trust, provenance, unsigned)
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
        from images.mirrors import Mirrors

        matrix = load()
        trusted = Mirrors.of(environ(), certificates=certificates).certificates
        found = collect.images(registry or [], layout or [], engine, brief, trusted, say)
        print(write.write(write.rendered(matrix, found), Path(out)))


@task(
    name="matrix",
    auto_shortflags=False,
    help={"release": "one release (default: all)", "format": "text, json or github"},
)
def show_matrix(c: Context, release: str | None = None, format: str = "text") -> None:
    """Show the images that the matrix describes: tags, CANN bases, pins."""
    with problems_in_plain_words():
        from images.build import report
        from images.matrix import load

        matrix = load()
        rows = report.matrix_data(matrix, release)
        text, jobs = report.matrix_text, report.matrix_jobs
        data(format, rows, lambda: text(rows), lambda: jobs(rows))
