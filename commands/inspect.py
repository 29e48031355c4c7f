"""Commands that look into images, built or published."""

from __future__ import annotations

from pathlib import Path

from commands.command import command, option, output, say
from commands.options import AT, CERTIFICATES, FORMAT, IMAGE, IMAGE_ARCH, trusted, words


@command
def inspect(
    image: str = IMAGE,
    arch: str = IMAGE_ARCH,
    at: str = AT,
    brief: bool = option("read only the manifest, no layers; omits packages, roles and recipes"),
    with_: list[str] = option("another image to compare the layers with; repeatable"),
    diff: str = option("another image: show what changed from it to IMAGE"),
    budget: bool = option("compare with images/build/budgets.yaml; exit with 65 when over budget"),
    baseline: bool = option("print the image's sizes as an entry of images/build/budgets.yaml"),
    certificates: str = CERTIFICATES,
    format: str = FORMAT,
) -> None:
    """Show what an image is and contains

    Pins, platforms, layers with their sizes and who shares them, packages, environment, roles and
    recipes. Caches the contents of each layer in build/inspect.

        invoke inspect IMAGE
        invoke inspect --diff OLD IMAGE
    """
    from images.build import budgets
    from images.inspect import budget as measured
    from images.inspect import diff as diffs
    from images.inspect import diff_output, image_output, reader
    from images.matrix import load

    matrix = load()
    known = budgets.load(matrix)
    before, found = reader.read_and_compare(
        [diff] if diff else [],
        [image],
        arches=[matrix.arch(name).name for name in words(arch)],
        at=at,
        brief=brief or budget or baseline,
        beside=with_,
        certificates=trusted(certificates),
        say=say,
    )
    if budget:
        verdicts = measured.verdicts(known, found)
        output(format, measured.verdicts_data(verdicts), lambda: measured.verdicts_text(verdicts))
        budgets.enforce(verdicts)
    elif baseline:
        entries = measured.entries(found)
        output(format, entries, lambda: measured.entries_text(entries))
    elif diff:
        changed = diffs.differences(before, found)
        output(
            format,
            diff_output.differences_data(changed),
            lambda: diff_output.differences_text(changed),
        )
    else:
        output(format, image_output.images_data(found), lambda: image_output.images_text(found))


@command
def sbom(
    image: str = IMAGE,
    arch: str = IMAGE_ARCH,
    at: str = AT,
    out: str = option("write a file for each architecture into this directory instead of printing"),
    certificates: str = CERTIFICATES,
) -> None:
    """List what an image is made of, as CycloneDX 1.6

    The same image always gives the same bytes.

        invoke sbom IMAGE --arch arm64
    """
    from images.attestations import sbom as sboms
    from images.inspect.stores import open_images
    from images.matrix import load

    matrix = load()
    arches = [matrix.arch(name).name for name in words(arch)]
    with open_images([image], at, trusted(certificates), say) as (found,):
        root = found.store.manifest(found.key)
        assert root is not None
        made = sboms.documents(matrix, found.store, root, arches, say)
    if out:
        print("\n".join(map(str, sboms.write(made, Path(out)))))
    else:
        print(sboms.only(made), end="")


@command
def site(
    registry: list[str] = option("REGISTRY/NAME: show all of its tags; repeatable"),
    layout: list[str] = option("a directory with an OCI layout; repeatable"),
    engine: bool = option("the images in the engine"),
    brief: bool = option("read only manifests, no layers; pages then lack packages and commands"),
    out: str = option("directory of the pages; replaces what is there (default: build/site)"),
    certificates: str = CERTIFICATES,
) -> None:
    """Write the image catalogue as static pages

    invoke site --registry registry.example.com/team/vllm-ascend
    """
    from common.paths import WORK
    from images.catalogue import collect, write
    from images.matrix import load

    matrix = load()
    found = collect.images(registry, layout, engine, brief, trusted(certificates), say)
    print(write.write(write.rendered(matrix, found), Path(out) if out else WORK / "site"))
