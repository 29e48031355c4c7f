"""Build images: capture the base's environment, then bake every target in one graph."""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from common.paths import WORK
from common.terminal import Say
from images.build import budgets, graph, push, records, rootfs
from images.build.bake import bake
from images.build.compressed_size import CompressedSize
from images.build.options import native_arch
from images.build.progress import Progress
from images.build.records import Built
from images.build.targets import NO_WHEELS, BuildTarget
from images.labels import BASE_DIGEST, INPUTS
from images.locking import vendor
from images.registry.oci import Layout, Manifest


@dataclass(frozen=True)
class Planned:
    """One image that would be built; `stages` says of each whether it was built here before."""

    tag: str
    base: str
    arches: tuple[str, ...]
    pins: dict[str, str]
    stages: tuple[tuple[str, bool], ...]
    up_to_date: bool


def build(targets: list[BuildTarget], say: Say) -> list[Built]:
    """Build all targets. A tag moves only when its image is complete: BuildKit names it at the end.

    Raises UserError: 69 when something is not reached, 70 when a step fails, and 65 when an image
    to be pushed is over its budget: then none is pushed.
    """
    options = targets[0].options
    provide_roots(targets, say)
    done = {} if options.no_cache else _up_to_date(targets)
    todo = [target for target in targets if target not in done]
    if todo:
        progress = Progress()
        labels = {target: {INPUTS: target.inputs.digest} for target in todo}
        digests = _bake(todo, labels, progress, say)
        seconds = progress.stage_seconds()
        for target, digest in digests.items():
            done[target] = records.describe(target, digest, _manifests(target, digest), seconds)
        if options.push:
            enforce_budgets({target: done[target].sizes for target in todo})
            for target, digest in digests.items():
                say(f"pushing {target.tag}")
                push.push(digest, target.tag, options.mirrors.certificates, say)
            push.prune_layout(list(digests.values()))
        for target in todo:
            records.save(target, target.latest.fingerprints, done[target])
    return [done[target] for target in targets]


def into_layout(
    targets: list[BuildTarget], labels: Mapping[BuildTarget, Mapping[str, str]], say: Say
) -> dict[BuildTarget, str]:
    """Build all targets into the OCI layout, each with its `labels`; returns their digests.

    Nothing is pushed. Raises UserError as `build` does, and 65 when an image is over its budget.
    """
    provide_roots(targets, say)
    digests = _bake(targets, labels, Progress(), say, provenance=True)
    enforce_budgets(
        {
            target: [
                CompressedSize.of(arch, manifest, target.layers)
                for arch, manifest in _manifests(target, digest).items()
            ]
            for target, digest in digests.items()
        }
    )
    return digests


def _manifests(target: BuildTarget, digest: str) -> dict[str, Manifest]:
    """Architecture → manifest of an image just built; empty where the engine cannot push it."""
    single = target.options.arches[0].name
    if not target.options.push:
        from images.build import engine  # its server costs a build that has nothing to do 20 ms

        return engine.manifests(target.tag, digest, single)
    layout = Layout(push.LAYOUT)
    top = layout.manifest(digest)
    digests = top.arches if top.is_index else {single: digest}
    return {arch: layout.manifest(one) for arch, one in digests.items()}


def enforce_budgets(sizes: Mapping[BuildTarget, Iterable[CompressedSize]]) -> None:
    """Raises UserError (65) when an image is larger than images/build/budgets.yaml allows."""
    checked = {target: found for target, found in sizes.items() if target.options.budget}
    if not checked:
        return
    known = budgets.load(next(iter(checked)).matrix)
    budgets.enforce(
        budgets.check(
            known,
            f"{target.tag} (linux/{size.arch})",
            budgets.Key.of(target.variant, target.base.kind, size),
            size.layers,
        )
        for target, several in checked.items()
        for size in several
    )


def _bake(
    targets: list[BuildTarget],
    labels: Mapping[BuildTarget, Mapping[str, str]],
    progress: Progress,
    say: Say,
    provenance: bool = False,
) -> dict[BuildTarget, str]:
    """Capture the environments, build, and return the digest of every image.

    With `provenance` an image is an index: BuildKit puts its statement beside it.
    """
    _capture(targets, progress, say)
    images = {target.name: _image_target(target) for target in targets}
    for target in targets:
        image = images[target.name]
        image["labels"] = {**labels.get(target, {}), BASE_DIGEST: _base_digest(target)}
        if provenance:
            image["attest"] = ["type=provenance,mode=max"]
        if target.options.no_cache:
            image["no-cache-filter"] = _left_stages(target)
    metadata = bake(images, WORK / "bake", progress, builder=targets[0].options.builder)
    return {t: metadata.get(t.name, {}).get("containerimage.digest", "") for t in targets}


def _left_stages(target: BuildTarget) -> list[str]:
    """The stages of the image that `_capture` has not just built, for each architecture."""
    stages, names = target.captured.stages, [*target.captured.free_layers]
    if len(target.options.arches) == 1:
        names.append("environment")
    built = {used for name in names for used in graph.used_by(stages, name)}
    return [name for name in graph.used_by(stages, "image") if name not in built]


def _base_digest(target: BuildTarget) -> str:
    """The digest of the base's image, or of all inputs if the base is made here."""
    made_from = hashlib.sha256(target.dockerfile.fingerprints["base"].encode()).hexdigest()
    return target.found.digest or f"sha256:{made_from}"


def planned(targets: list[BuildTarget]) -> list[Planned]:
    """Compare the targets with what was built here before; build nothing."""
    before = records.built_before(targets[0].options)
    done = _up_to_date(targets)
    result = []
    for target in targets:
        latest = target.latest
        result.append(
            Planned(
                target.tag,
                target.base.describe,
                tuple(arch.name for arch in target.options.arches),
                target.variant.pins,
                tuple((name, latest.fingerprints[name] in before) for name in latest.used),
                target in done,
            )
        )
    return result


def _up_to_date(targets: list[BuildTarget]) -> dict[BuildTarget, Built]:
    found = {t: records.up_to_date(t, t.latest.fingerprints["image"]) for t in targets}
    return {target: built for target, built in found.items() if built}


def provide_roots(targets: list[BuildTarget], say: Say) -> None:
    """Make the root file systems that the targets and their stages start from."""
    matrix, options = targets[0].matrix, targets[0].options
    if options.offline:
        return
    provide_vendor(targets, say)
    roots = WORK / "roots"
    for name, debian in dict.fromkeys(target.root for target in targets if target.root):
        for arch in options.arches:
            rootfs.provide(debian, arch, name, roots, say, options.mirrors.apt_mirror)
    if any(target.tools_image is None for target in targets):
        mirror = options.mirrors.apt_mirror
        rootfs.provide(matrix.tools, native_arch(matrix), "tools", roots, say, mirror)
    for folder in (roots, NO_WHEELS):
        folder.mkdir(parents=True, exist_ok=True)


def provide_vendor(targets: list[BuildTarget], say: Say) -> None:
    """Provide the wheels that come from the vendor, with the hashes of the lock."""
    options = targets[0].options
    releases = {
        one.variant.release.name: one.variant.release for one in targets if one.needs_vendor
    }
    for release in releases.values():
        certificates = options.mirrors.certificates
        vendor.fetch(release, options.arches, options.wheels, certificates, say)


def common_target(target: BuildTarget, text: str, name: str) -> dict[str, Any]:
    """The part of a bake target that the environment stage and the image share."""
    options = target.options
    path = WORK / "dockerfiles" / f"{name}.Dockerfile"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(options.offline.dockerfile(text) if options.offline else text)
    places = {name: str(place) for name, place in target.contexts.items()}
    if target.found.pinned:
        places[target.base.image] = f"docker-image://{target.found.pinned}"
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


def _capture(targets: list[BuildTarget], progress: Progress, say: Say) -> None:
    """Run the stage that captures a base's environment, for each base that it was not run for.

    The layers that need no environment are built beside it, so that every CPU has work.
    """
    options = targets[0].options
    arch = options.arches[0]
    missing = {
        target.environment_file.parent: target
        for target in targets
        if options.no_cache or not target.environment_file.is_file()
    }
    if not missing:
        return
    say("building the layers, and capturing the base's environment")
    environments = {
        f"environment-{target.name}": {
            **common_target(target, target.dockerfile.text, f"{target.name}.environment"),
            "target": "environment",
            "platforms": [arch.oci_platform],
            "args": {"MACHINE": arch.machine},
            "output": [f"type=local,dest={directory}"],
        }
        for directory, target in missing.items()
    }
    bake(
        {**environments, **{f"layers-{target.name}": _layers_target(target) for target in targets}},
        WORK / "bake-environment",
        progress,
        builder=options.builder,
        no_cache=options.no_cache,
    )


def _layers_target(target: BuildTarget) -> dict[str, Any]:
    """Build the layers that need no environment into BuildKit's cache, as the image copies them."""
    copies = [f"COPY --link --from={name} /out/ /" for name in target.dockerfile.free_layers]
    text = "\n".join([target.dockerfile.text, "FROM scratch AS layers", *copies, ""])
    return {
        **common_target(target, text, f"{target.name}.layers"),
        "target": "layers",
        "platforms": [arch.oci_platform for arch in target.options.arches],
        "args": {"SOURCE_DATE_EPOCH": _published(target)},
        "output": ["type=cacheonly"],
    }


def _published(target: BuildTarget) -> str:
    return str(calendar.timegm(target.variant.published.timetuple()))


def _image_target(target: BuildTarget) -> dict[str, Any]:
    options = target.options
    if options.push:
        # A published base is gzip: made zstd, it would be sent again in full.
        force = options.compression == "gzip" or target.base.debian
        output = push.output(options.compression, force)
    elif options.builder:
        output = "type=docker"
    else:
        output = f"type=image,unpack=true,compression={options.compression},oci-mediatypes=true"
    return {
        **common_target(target, target.captured.text, target.name),
        "target": "image",
        "platforms": [arch.oci_platform for arch in options.arches],
        "args": {"SOURCE_DATE_EPOCH": _published(target)},
        "tags": [target.tag],
        "output": [output],
    }
