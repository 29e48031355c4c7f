"""Build images: capture the base's environment, then bake every variant in one graph."""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.paths import WORK
from images.build import budgets, graph, push, records, rootfs
from images.build.bake import bake
from images.build.compressed_size import CompressedSize
from images.build.inputs import inputs_digest
from images.build.progress import Progress
from images.build.records import Built
from images.build.render import Environment, layers
from images.build.targets import (
    NO_WHEELS,
    Options,
    Say,
    Target,
    contexts,
    fingerprints,
    native_arch,
    render,
    root,
)
from images.labels import BASE_DIGEST, INPUTS
from images.matrix import Matrix
from images.registry.oci import Layout, Manifest

Prints = dict[str, str]  # stage → fingerprint


@dataclass(frozen=True)
class Planned:
    """One image that would be built; `stages` says of each whether it was built here before."""

    tag: str
    base: str
    arches: tuple[str, ...]
    pins: dict[str, str]
    stages: tuple[tuple[str, bool], ...]
    up_to_date: bool


def build(matrix: Matrix, targets: list[Target], options: Options, say: Say) -> list[Built]:
    """Build all targets. A tag moves only when its image is complete: BuildKit names it at the end.

    Raises UserError: 69 when something is not reached, 70 when a step fails, and 65 when an image
    that is to be pushed is over its budget: then none is.
    """
    provide_roots(matrix, targets, options, say)
    prints = {target: _fingerprints(matrix, target, options) for target in targets}
    done = {} if options.no_cache else _up_to_date(prints, options)
    todo = [target for target in targets if target not in done]
    if todo:
        progress = Progress()
        labels = {target: {INPUTS: inputs_digest(matrix, target, options)} for target in todo}
        digests = _bake(matrix, {t: prints[t] for t in todo}, options, labels, progress, say)
        seconds = progress.stage_seconds()
        for target, digest in digests.items():
            own = layers(matrix, target.variant, target.found.base)
            manifests = _manifests(target, digest, options)
            done[target] = records.inspect(target, digest, own, manifests, seconds, options.push)
        if options.push:
            enforce_budgets(matrix, {t: done[t].sizes for t in todo}, options)
            for target, digest in digests.items():
                say(f"pushing {target.tag}")
                push.push(digest, target.tag)
            push.keep(list(digests.values()))
        for target in todo:
            records.remember(target, _fingerprints(matrix, target, options), done[target], options)
    return [done[target] for target in targets]


def into_layout(
    matrix: Matrix,
    targets: list[Target],
    options: Options,
    labels: Mapping[Target, Mapping[str, str]],
    say: Say,
) -> dict[Target, str]:
    """Build all targets into the OCI layout, each with `labels` of its own; returns their digests.

    Nothing is pushed. Raises UserError as `build` does, and 65 when an image is over its budget.
    """
    provide_roots(matrix, targets, options, say)
    prints = {target: _fingerprints(matrix, target, options) for target in targets}
    digests = _bake(matrix, prints, options, labels, Progress(), say, provenance=True)
    sizes = {}
    for target, digest in digests.items():
        own = layers(matrix, target.variant, target.found.base)
        manifests = _manifests(target, digest, options)
        sizes[target] = [CompressedSize.of(arch, one, own) for arch, one in manifests.items()]
    enforce_budgets(matrix, sizes, options)
    return digests


def _manifests(target: Target, digest: str, options: Options) -> dict[str, Manifest]:
    """Architecture → manifest of an image just built, as far as they can be had."""
    single = options.arches[0].name
    if not options.push:
        from images.build import engine  # its server costs a build that has nothing to do 20 ms

        return engine.manifests(target.tag, digest, single)
    layout = Layout(push.LAYOUT)
    top = layout.manifest(digest)
    digests = top.arches if top.is_index else {single: digest}
    return {arch: layout.manifest(one) for arch, one in digests.items()}


def enforce_budgets(
    matrix: Matrix, sizes: Mapping[Target, Iterable[CompressedSize]], options: Options
) -> None:
    """Raises UserError (65) when an image is larger than images/build/budgets.yaml allows."""
    if not options.budget:
        return
    known = budgets.load(matrix)
    budgets.enforce(
        budgets.check(
            known,
            f"{target.tag} (linux/{size.arch})",
            budgets.Key.of(target.variant, target.found.base.kind, size),
            size.layers,
        )
        for target, several in sizes.items()
        for size in several
    )


def _bake(
    matrix: Matrix,
    prints: dict[Target, Prints],
    options: Options,
    labels: Mapping[Target, Mapping[str, str]],
    progress: Progress,
    say: Say,
    provenance: bool = False,
) -> dict[Target, str]:
    """Capture what is to be baked in, build, and return the digest of every image.

    With `provenance` an image is an index: BuildKit puts its statement beside it.
    """
    environments = _capture(matrix, prints, options, progress, say)
    images = {t.name: _image_target(matrix, t, environments[t], options) for t in prints}
    for target, own in prints.items():
        digest = _base_digest(target, own)
        images[target.name]["labels"] = {**labels.get(target, {}), BASE_DIGEST: digest}
    if provenance:
        for image in images.values():
            image["attest"] = ["type=provenance,mode=max"]
    metadata = bake(
        images, WORK / "bake", progress, builder=options.builder, no_cache=options.no_cache
    )
    return {t: metadata.get(t.name, {}).get("containerimage.digest", "") for t in prints}


def _base_digest(target: Target, prints: Prints) -> str:
    """That of the base's image; of a base that is made here, of everything that it is made from."""
    made_from = hashlib.sha256(prints["base"].encode()).hexdigest()
    return target.found.digest or f"sha256:{made_from}"


def planned(matrix: Matrix, targets: list[Target], options: Options) -> list[Planned]:
    """What `build` would do, from what was built here before; builds and changes nothing."""
    before = records.built_before(options)
    prints = {target: _fingerprints(matrix, target, options) for target in targets}
    done = _up_to_date(prints, options)
    result = []
    for target in targets:
        stages = graph.parse(render(matrix, target, options))
        used = {*graph.used_by(stages, "environment"), *graph.used_by(stages, "image")}
        result.append(
            Planned(
                target.tag,
                target.found.base.describe,
                tuple(arch.name for arch in options.arches),
                target.variant.pins,
                tuple((name, prints[target][name] in before) for name in stages if name in used),
                target in done,
            )
        )
    return result


def _fingerprints(matrix: Matrix, target: Target, options: Options) -> Prints:
    """Stage → what it is made from, with the environment baked in once that is known."""
    prints = fingerprints(matrix, target, render(matrix, target, options), options)
    kept = _kept_environment(prints)
    if not kept.is_file():
        return prints
    text = render(matrix, target, options, Environment.read(kept))
    return fingerprints(matrix, target, text, options)


def _kept_environment(prints: Prints) -> Path:
    """Where the environment of a base is kept: by its stage's fingerprint, captured once a base."""
    return WORK / "environments" / prints["environment"][:64] / "environment.json"


def _up_to_date(prints: dict[Target, Prints], options: Options) -> dict[Target, Built]:
    found = {t: records.up_to_date(t, one["image"], options) for t, one in prints.items()}
    return {target: built for target, built in found.items() if built}


def provide_roots(matrix: Matrix, targets: list[Target], options: Options, say: Say) -> None:
    """Make the root file systems that the targets and their stages stand on."""
    if options.offline:
        return
    roots = WORK / "roots"
    for name, debian in dict.fromkeys(filter(None, (root(matrix, one) for one in targets))):
        for arch in options.arches:
            rootfs.provide(debian, arch, name, roots, say)
    if any(target.tools_image is None for target in targets):
        rootfs.provide(matrix.tools, native_arch(matrix), "tools", roots, say)
    for folder in (roots, NO_WHEELS):
        folder.mkdir(parents=True, exist_ok=True)


def common_target(
    matrix: Matrix, target: Target, text: str, name: str, options: Options
) -> dict[str, Any]:
    """The part of a bake target that the environment stage and the image share."""
    path = WORK / "dockerfiles" / f"{name}.Dockerfile"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(options.offline.dockerfile(text) if options.offline else text)
    places = {name: str(place) for name, place in contexts(matrix, target, options).items()}
    if target.found.pinned:
        places[target.found.base.image] = f"docker-image://{target.found.pinned}"
    # Separate directories: a build running beside this one must not change its mirrors.
    secrets = WORK / "secrets" / ("offline" if options.offline else "")
    made = {
        "context": places.pop(""),
        "dockerfile": str(path),
        "contexts": places,
        "secret": options.mirrors.secrets(secrets),
        "attest": ["type=provenance,disabled=true"],
    }
    return options.offline.target(made, target.name, WORK) if options.offline else made


def _capture(
    matrix: Matrix,
    prints: dict[Target, Prints],
    options: Options,
    progress: Progress,
    say: Say,
) -> dict[Target, Environment]:
    """The environment of each target's base after set_env.sh, from the stage that captures it."""
    arch = options.arches[0]
    kept = {target: _kept_environment(one) for target, one in prints.items()}
    missing = {
        path.parent: target
        for target, path in kept.items()
        if options.no_cache or not path.is_file()
    }
    if missing:
        say("capturing the base's environment")
        bake(
            {
                f"environment-{target.name}": {
                    **common_target(
                        matrix,
                        target,
                        render(matrix, target, options),
                        f"{target.name}.environment",
                        options,
                    ),
                    "target": "environment",
                    "platforms": [arch.oci_platform],
                    "args": {"MACHINE": arch.machine},
                    "output": [f"type=local,dest={directory}"],
                }
                for directory, target in missing.items()
            },
            WORK / "bake-environment",
            progress,
            builder=options.builder,
            no_cache=options.no_cache,
        )
    return {target: Environment.read(path) for target, path in kept.items()}


def _image_target(
    matrix: Matrix, target: Target, environment: Environment, options: Options
) -> dict[str, Any]:
    text = render(matrix, target, options, environment)
    published = calendar.timegm(target.variant.published.timetuple())
    if options.push:
        # A published base is gzip: made zstd, it would be sent again in full.
        force = options.compression == "gzip" or target.found.base.debian
        output = push.output(options.compression, force)
    elif options.builder:
        output = "type=docker"
    else:
        output = f"type=image,unpack=true,compression={options.compression},oci-mediatypes=true"
    return {
        **common_target(matrix, target, text, target.name, options),
        "target": "image",
        "platforms": [arch.oci_platform for arch in options.arches],
        "args": {"SOURCE_DATE_EPOCH": str(published)},
        "tags": [target.tag],
        "output": [output],
    }
