"""Commands that build images, and show what they are built from."""

from __future__ import annotations

from pathlib import Path

from commands.command import argument, choice, command, option, output, say
from commands.options import DRY_RUN, FORMAT, BuildOptions, releases

SELECTION = ("platform", "release", "os", "base", "share_cann", "vllm")
INPUTS = (*SELECTION, "arch", "all", "cann_packages", "tools", "builder", "source", "wheels",
          "certificates")  # fmt: skip
FETCHED = ("pip_index", "torch_index", "registry_mirror")


@command
def build(options: BuildOptions, dry_run: bool = DRY_RUN, format: str = FORMAT) -> None:
    """Build images

    Layers CANN, torch with torch_npu and triton_ascend, Mooncake, vLLM and vllm-ascend from the
    locked pins of one release.

        invoke build --platform a3
        invoke build --platform a3 --base stand-in    without a registry, anywhere
        invoke build --platform cpu                   without NPUs: vLLM that serves on the CPU
    """
    from images.build import build as builds
    from images.build import results, targets
    from images.matrix import load
    from images.offline import needs

    matrix = load()
    bundle = options.bundle()
    how = options.options(matrix, bundle)
    chosen = targets.resolve(matrix, options.variants(matrix), how, say, complete=not dry_run)
    if bundle:
        needs.check(chosen, bundle, say)
    if dry_run:
        planned = builds.planned(chosen)
        output(format, results.plan_data(planned), lambda: results.plan_text(planned))
        return
    built = builds.build(chosen, say)
    output(format, results.built_data(built), lambda: results.built_text(built))
    sizes = {target: one.sizes for target, one in zip(chosen, built, strict=True)}
    builds.enforce_budgets(sizes)


@command(
    only=(*INPUTS, *FETCHED),
    help={
        "cann_packages": "a directory with CANN's .run installers; does not go into the bundle",
        "wheels": "a directory with wheels that no index in reach has: platform cpu's torch, or"
        " packages that only the vendor has; the files used from it go into the bundle",
        "registry_mirror": "MIRROR put before image names, or HOST=MIRROR (default: "
        "REGISTRY_MIRROR); apt's and dnf's mirrors come from the environment",
    },
)
def fetch(
    options: BuildOptions,
    directory: str = argument("where to write the bundle; an incomplete one is completed"),
    format: str = FORMAT,
) -> None:
    """Download what an offline build needs

    With it, build --offline DIRECTORY needs no network. When interrupted, run it again: it
    completes what is there.

        invoke fetch DIRECTORY --platform a3
    """
    from images.build import targets
    from images.matrix import load
    from images.offline import fetch as fetching

    matrix = load()
    how = options.options(matrix)
    chosen = targets.resolve(matrix, options.variants(matrix), how, say)
    made = fetching.fetch(chosen, Path(directory), say)
    output(format, fetching.fetched_data(made), lambda: fetching.fetched_text(made))


@command(
    only=SELECTION,
    help={
        "platform": "a platform of the matrix: a2, a3, …",
        "os": "ubuntu22.04 (default) or openeuler24.03",
    },
)
def render(
    options: BuildOptions,
    environment: str = option("a build's environment.json, to render with its ENV"),
) -> None:
    """Print the Dockerfile of an image

    Needs neither a network nor an engine.

        invoke render --platform a3
    """
    from common.errors import user_error
    from images.build import render as renders
    from images.matrix import load

    matrix = load()
    variant, *others = options.variants(matrix)
    if others:
        raise user_error("--platform", "names several images", "name one platform and one --os")
    captured = renders.Environment.read(Path(environment)) if environment else None
    print(renders.preview(matrix, variant, options.base or None, options.share_cann, captured))


@command
def matrix(
    release: str = option("one release (default: all)", releases),
    format: str = choice("text", "json", "github"),
) -> None:
    """List the images of the matrix: tags, CANN bases, pins"""
    from images.build import results
    from images.matrix import load

    of = load()
    rows = results.matrix_data(of, release or None)
    text, jobs = results.matrix_text, results.matrix_jobs
    output(format, rows, lambda: text(rows), lambda: jobs(rows))
