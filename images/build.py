"""Build images: find the base, capture its environment, bake every variant in one graph."""

from __future__ import annotations

import calendar
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images import base as bases
from images import lock, rootfs
from images.bake import bake
from images.base import FoundBase
from images.errors import EX_DATAERR, Problem, UserError, fail
from images.matrix import STAND_IN, Arch, Matrix, Variant
from images.progress import Progress
from images.render import Environment, dockerfile
from images.site import Site

PROJECT = Path(__file__).parent.parent
WORK = PROJECT / "build"
IMAGES = Path(__file__).parent
REPOSITORY = "vllm-ascend"
DEBIAN = "debian"  # --tools debian: the builder's own root file system from Debian packages
SOURCES = ("vllm-ascend", "mooncake", "yalantinglibs")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to build; what to build is the list of variants."""

    arches: tuple[Arch, ...]
    base: str | None = None
    cann_packages: Path | None = None
    share_cann: bool = False
    tools: str | None = None
    registry: str = ""
    push: bool = False
    builder: str | None = None
    compression: str = "zstd"
    no_cache: bool = False
    sources: dict[str, str] = field(default_factory=dict)
    site: Site = field(default_factory=Site)


@dataclass(frozen=True, eq=False)  # a key by identity: a base holds mappings
class Target:
    """One image to build: a variant on a base that was found."""

    variant: Variant
    found: FoundBase
    tag: str
    tools_image: str | None

    @property
    def name(self) -> str:
        return self.tag.rpartition(":")[2].replace(".", "_")


@dataclass(frozen=True)
class Layer:
    """One layer of a built image; bytes are uncompressed, as the engine reports them."""

    name: str
    digest: str
    size: int
    seconds: float


@dataclass(frozen=True)
class Built:
    """One image that was built."""

    tag: str
    digest: str
    size: int
    layers: tuple[Layer, ...]
    up_to_date: bool = False


def native_arch(matrix: Matrix) -> Arch:
    """The architecture of this machine, else the first of the matrix."""
    machine = platform.machine()
    return next((arch for arch in matrix.arches.values() if arch.machine in (machine, {"arm64": "aarch64"}.get(machine))), next(iter(matrix.arches.values())))


def resolve(matrix: Matrix, variants: Iterable[Variant], options: Options, say: Say) -> list[Target]:
    """Find every variant's base and check its lock. Raises UserError with all problems."""
    targets, problems = [], []
    for variant in variants:
        problems += _unlocked(matrix, variant)
        try:
            found = bases.find(
                matrix,
                variant,
                options.site,
                image=options.base,
                packages=options.cann_packages,
                share_cann=options.share_cann,
                builder=options.builder,
                say=say,
            )
        except UserError as error:
            if error.exit_code != EX_DATAERR:
                raise
            problems += error.problems
            continue
        targets.append(Target(variant, found, _tag(variant, found, options), _tools_image(matrix, variant, found, options)))
    if problems:
        raise UserError(dict.fromkeys(problems), EX_DATAERR)
    return targets


def _unlocked(matrix: Matrix, variant: Variant) -> list[Problem]:
    return [*lock.check(matrix, variant.release), *lock.check_tools(matrix)]


def _tag(variant: Variant, found: FoundBase, options: Options) -> str:
    registry = f"{options.registry.rstrip('/')}/" if options.registry else ""
    suffix = "-standin" if found.base.kind == STAND_IN else ""
    return f"{registry}{REPOSITORY}:{variant.tag}{suffix}"


def _tools_image(matrix: Matrix, variant: Variant, found: FoundBase, options: Options) -> str | None:
    """The image that the stages run on; None for a root file system made here."""
    if options.tools == DEBIAN or (options.tools is None and found.base.debian):
        if variant.release.python != matrix.tools.python:
            raise fail("--tools debian", f"{variant.release.name} needs Python {variant.release.python}, Debian {matrix.tools.suite} has {matrix.tools.python}", "--tools IMAGE")
        return None
    return options.tools or options.site.image(matrix.images["tools"].format(python=variant.release.python))


# ---- what goes into a target ---------------------------------------------------------------------


def render(matrix: Matrix, target: Target, options: Options, environment: Environment | None = None) -> str:
    return dockerfile(
        matrix,
        target.variant,
        target.found.base,
        tools_image=target.tools_image,
        share_cann=options.share_cann,
        environment=environment,
    )


def inputs_digest(text: str, target: Target, parts: Iterable[Path]) -> str:
    """The digest of everything that decides an image: its Dockerfile, its base, the files it takes."""
    digest = hashlib.sha256()
    for word in (text, target.found.identity, *(f"{path.relative_to(PROJECT)} {_file_digest(path)}" for path in _files(parts))):
        digest.update(f"{word}\0".encode())
    return digest.hexdigest()


def _files(parts: Iterable[Path]) -> list[Path]:
    found = (path for part in parts for path in ([part] if part.is_file() else part.rglob("*")))
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _image_parts(target: Target) -> list[Path]:
    locks = lock.LOCKS
    return [
        *(IMAGES / "stages", PROJECT / "entrypoints", PROJECT / "env"),
        *(locks / target.variant.release.name, locks / "tools.txt", locks / "stand-in.txt"),
        *_roots(),
    ]


def _roots() -> list[Path]:
    return sorted((WORK / "roots").glob("*.sha256"))


# ---- building ------------------------------------------------------------------------------------


def build(matrix: Matrix, targets: list[Target], options: Options, say: Say) -> list[Built]:
    """Build all targets. Tags move only when an image is complete: BuildKit names it at the end.

    Raises UserError: 69 when something is not reached, 70 when a step fails.
    """
    _provide_roots(matrix, targets, options, say)
    texts = {target: render(matrix, target, options) for target in targets}
    digests = {target: inputs_digest(texts[target], target, _image_parts(target)) for target in targets}
    done = {} if options.no_cache else {t: b for t in targets if (b := _up_to_date(t, digests[t], options))}
    todo = [target for target in targets if target not in done]
    if todo:
        progress = Progress()
        environments = _capture(matrix, todo, texts, options, progress, say)
        metadata = bake(
            {t.name: _image_target(matrix, t, environments[t], options) for t in todo},
            WORK / "bake",
            progress,
            builder=options.builder,
            no_cache=options.no_cache,
        )
        seconds = progress.stage_seconds()
        for target in todo:
            digest = metadata.get(target.name, {}).get("containerimage.digest", "")
            done[target] = built = _inspect(target, digest, seconds, options)
            _remember(target, digests[target], built, options)
    return [done[target] for target in targets]


def _provide_roots(matrix: Matrix, targets: list[Target], options: Options, say: Say) -> None:
    roots = WORK / "roots"
    if any(target.found.base.debian for target in targets):
        for arch in options.arches:
            rootfs.provide(matrix.stand_in, arch, "base", roots, say)
    if any(target.tools_image is None for target in targets):
        rootfs.provide(matrix.tools, native_arch(matrix), "tools", roots, say)
    roots.mkdir(parents=True, exist_ok=True)


def _common(target: Target, text: str, name: str, options: Options) -> dict[str, Any]:
    """The part of a bake target that the environment stage and the image share."""
    path = WORK / "dockerfiles" / f"{name}.Dockerfile"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    contexts = {"stages": IMAGES / "stages", "locks": lock.LOCKS, "entrypoints": PROJECT / "entrypoints", "env": PROJECT / "env"}
    result: dict[str, Any] = {
        "context": str(WORK / "roots"),
        "dockerfile": str(path),
        "contexts": {key: str(value) for key, value in contexts.items()},
        "secret": options.site.secrets(WORK / "secrets"),
        "attest": ["type=provenance,disabled=true"],
    }
    if options.cann_packages:
        result["contexts"]["cann-packages"] = str(options.cann_packages.resolve())
    if target.found.base.compiles:
        result["contexts"] |= _source_contexts(target.variant, options)
    if target.found.pinned:
        result["contexts"][target.found.base.image] = f"docker-image://{target.found.pinned}"
    return result


def _source_contexts(variant: Variant, options: Options) -> dict[str, str]:
    from images.matrix import load

    matrix = load()
    tags = {"vllm-ascend": f"v{variant.release.vllm_ascend}", "mooncake": f"v{variant.release.mooncake.version}"}
    contexts = {}
    for name in SOURCES:
        given = options.sources.get(name, matrix.sources[name])
        tag = tags.get(name)
        if "://" in given and "#" not in given and tag:
            given += f"#{tag}"
        contexts[f"{name}-source"] = given
    return contexts


def _capture(matrix: Matrix, targets: list[Target], texts: dict[Target, str], options: Options, progress: Progress, say: Say) -> dict[Target, Environment]:
    """The environment of each target's base after set_env.sh, from the stage that captures it.

    Kept by the digest of what decides it, so that it is captured once a base.
    """
    arch = options.arches[0]
    kept = {target: WORK / "environments" / _environment_key(texts[target], target, arch) for target in targets}
    missing = {path: target for target, path in kept.items() if options.no_cache or not (path / "environment.json").is_file()}
    if missing:
        say("capturing what CANN's set_env.sh scripts change")
        bake(
            {
                f"environment-{target.name}": {
                    **_common(target, texts[target], f"{target.name}.environment", options),
                    "target": "environment",
                    "platforms": [arch.oci_platform],
                    "args": {"MACHINE": arch.machine},
                    "output": [f"type=local,dest={path}"],
                }
                for path, target in missing.items()
            },
            WORK / "bake-environment",
            progress,
            builder=options.builder,
            no_cache=options.no_cache,
        )
    return {target: Environment.read(path / "environment.json") for target, path in kept.items()}


def _environment_key(text: str, target: Target, arch: Arch) -> str:
    before, _, _ = text.partition("# ---- the image")
    release = lock.LOCKS / target.variant.release.name
    return inputs_digest(before, target, [release / arch.name / "torch.txt", IMAGES / "stages", *_roots()])[:16]


def _image_target(matrix: Matrix, target: Target, environment: Environment, options: Options) -> dict[str, Any]:
    text = render(matrix, target, options, environment)
    published = calendar.timegm(target.variant.release.published.timetuple())
    # A tag that was pushed stays in the engine too only when it is loaded, so one output says both.
    output = "type=image,push=true" if options.push else "type=docker" if options.builder else "type=image,unpack=true"
    compression = f",compression={options.compression},oci-mediatypes=true" if output != "type=docker" else ""
    return {
        **_common(target, text, target.name, options),
        "target": "image",
        "platforms": [arch.oci_platform for arch in options.arches],
        "args": {"SOURCE_DATE_EPOCH": str(published)},
        "tags": [target.tag],
        "output": [output + compression],
    }


# ---- what was built ------------------------------------------------------------------------------


def _inspect(target: Target, digest: str, seconds: dict[str, float], options: Options) -> Built:
    """The layers as the engine has them; without a local copy, the digest alone."""
    history = _docker_lines("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", target.tag)
    inspected = _docker_lines("image", "inspect", "--format", "{{json .RootFS.Layers}}", target.tag)
    if not history or not inspected:
        return Built(target.tag, digest, 0, ())
    digests = json.loads(inspected[0])
    sized = [(int(size), created) for size, created in (line.split("\t", 1) for line in reversed(history))]
    filled = [(size, created) for size, created in sized if created.startswith(("COPY", "RUN", "ADD")) or size]
    filled = filled[-len(digests) :]
    own = list(_own_layers(target))
    names = [*(f"base {index + 1}" for index in range(len(filled) - len(own))), *own]
    layers = tuple(
        Layer(name, digest, size, seconds.get(f"layer-{name}", 0.0))
        for name, digest, (size, _) in zip(names, digests, filled, strict=False)
    )
    return Built(target.tag, digest, sum(layer.size for layer in layers), layers)


def _own_layers(target: Target) -> Iterable[str]:
    text = (WORK / "dockerfiles" / f"{target.name}.Dockerfile").read_text()
    _, _, image = text.partition("FROM base AS image")
    return (line.split("--from=layer-")[1].split()[0] for line in image.splitlines() if line.startswith("COPY"))


def _docker_lines(*arguments: str) -> list[str]:
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def _record(target: Target, options: Options) -> Path:
    arches = "-".join(arch.name for arch in options.arches)
    where = options.builder or "engine"
    name = f"{target.tag.replace('/', '_').replace(':', '_')}.{arches}.{where}.json"
    return WORK / "built" / name


def _remember(target: Target, inputs: str, built: Built, options: Options) -> None:
    path = _record(target, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    layers = [vars(layer) for layer in built.layers]
    scratch.write_text(json.dumps({"inputs": inputs, "digest": built.digest, "size": built.size, "layers": layers}))
    os.replace(scratch, path)


def _up_to_date(target: Target, inputs: str, options: Options) -> Built | None:
    """What an earlier run built from the same inputs, if the engine still has it under its tag."""
    path = _record(target, options)
    if options.push or options.builder or not path.is_file():
        return None
    record = json.loads(path.read_text())
    if record["inputs"] != inputs or not record["digest"]:
        return None
    if _docker_lines("image", "inspect", "--format", "{{.Id}}", target.tag) != [record["digest"]]:
        return None
    layers = tuple(Layer(**layer) for layer in record["layers"])
    return Built(target.tag, record["digest"], record["size"], layers, up_to_date=True)
