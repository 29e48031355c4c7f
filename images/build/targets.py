"""What to build: the options, the variants they choose, each on a base that was found."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError, did_you_mean, user_error
from common.paths import ENV, ROOT, WORK
from images.build import base as bases
from images.build import graph
from images.build.base import FoundBase
from images.build.bundle import Bundle
from images.build.render import Environment, dockerfile
from images.locking import cpu as engines
from images.locking import lock
from images.matrix import CPU, SOURCES, STAND_IN, Arch, Debian, Matrix, Variant
from images.mirrors import Mirrors
from images.names import REPOSITORY

NO_WHEELS = WORK / "no-wheels"  # where --wheels is not given: empty
DEBIAN = "debian"  # --tools debian: the builder's own root file system from Debian packages

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
    budget: bool = True
    sources: dict[str, str] = field(default_factory=dict)
    wheels: Path | None = None
    mirrors: Mirrors = field(default_factory=Mirrors)
    offline: Bundle | None = None


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


def native_arch(matrix: Matrix) -> Arch:
    """The architecture of this machine, else the first of the matrix."""
    machine = platform.machine()
    return next(
        (
            arch
            for arch in matrix.arches.values()
            if arch.machine in (machine, {"arm64": "aarch64"}.get(machine))
        ),
        next(iter(matrix.arches.values())),
    )


def arches(matrix: Matrix, names: list[str]) -> tuple[Arch, ...]:
    """The architectures named, or this machine's own. Raises UserError."""
    return tuple(matrix.arch(name) for name in names) or (native_arch(matrix),)


def sources(given: list[str]) -> dict[str, str]:
    """`NAME=DIR|URL` options as a mapping. Raises UserError with every wrong one."""
    problems, result = [], {}
    for item in given:
        name, _, value = item.partition("=")
        if name not in SOURCES:
            problems.append(
                Finding(
                    "--source",
                    f"'{item}': there is no source '{name}'",
                    did_you_mean(name, SOURCES),
                )
            )
        elif not value or ("://" not in value and not Path(value).is_dir()):
            problems.append(
                Finding("--source", f"'{item}': no such directory", "NAME=DIR or NAME=URL")
            )
        else:
            result[name] = value
    if problems:
        raise UserError(problems)
    return result


def wheels(given: str | None) -> Path | None:
    """`--wheels DIR`. Raises UserError when there is no such directory."""
    if given and not Path(given).is_dir():
        raise user_error("--wheels", f"no such directory: {given}")
    return Path(given).resolve() if given else None


def chosen(
    matrix: Matrix,
    release: str | None,
    platforms: list[str],
    oses: list[str],
    everything: bool,
    engine: str | None = None,
) -> list[Variant]:
    """The variants that the options name. Raises UserError with every name that is wrong."""
    if engine and platforms != [CPU]:
        raise user_error("--engine", "is for --platform cpu alone")
    if everything:
        return list(matrix.variants(release))
    if not platforms:
        raise user_error(
            "--platform",
            "is missing",
            f"--platform {' or '.join(matrix.release(release).platforms)}, or --all",
        )
    if not oses:
        raise user_error("--os", "is empty", f"--os {' or '.join(matrix.oses)}")
    problems = _problems([partial(matrix.release, release), *(partial(matrix.os, o) for o in oses)])
    if problems:
        problems += _problems(partial(matrix.platform, name) for name in platforms)
        raise UserError(problems)
    pairs = dict.fromkeys(
        (name, "" if name == CPU else os_name) for name in platforms for os_name in oses
    )
    made = [partial(matrix.variant, release, *pair, engine=engine) for pair in pairs]
    if problems := _problems(made):
        raise UserError(problems)
    return [make() for make in made]


def _problems(calls: Iterable[Callable[[], object]]) -> list[Finding]:
    """Every problem of the calls, once."""
    problems: list[Finding] = []
    for call in calls:
        try:
            call()
        except UserError as error:
            problems += error.findings
    return list(dict.fromkeys(problems))


def resolve(
    matrix: Matrix, variants: Iterable[Variant], options: Options, say: Say
) -> list[Target]:
    """Find every variant's base and check its lock. Raises UserError with all problems."""
    targets, code = [], EX_DATAERR
    variants = list(variants)
    if options.wheels and not any(variant.engine for variant in variants):
        raise user_error("--wheels", "is for --platform cpu alone")
    problems = lock.check_tools(matrix)
    for release in {variant.release.name: variant.release for variant in variants}.values():
        problems += lock.check(matrix, release)
    for engine in {variant.engine for variant in variants if variant.engine}:
        problems += engines.check(matrix, engine, options.arches)
    for variant in variants:
        try:
            found = bases.find(
                matrix,
                variant,
                options.mirrors,
                image=options.base,
                packages=options.cann_packages,
                share_cann=options.share_cann,
                arches=options.arches,
                builder=options.builder,
                say=say,
                known=options.offline.bases if options.offline else None,
            )
        except UserError as error:
            if error.exit_code not in (EX_DATAERR, EX_UNAVAILABLE):
                raise
            problems += error.findings
            code = max(code, error.exit_code)
            continue
        targets.append(
            Target(
                variant,
                found,
                _tag(variant, found, options),
                _tools_image(matrix, variant, found, options),
            )
        )
    if problems:
        raise UserError(dict.fromkeys(problems), code)
    return targets


def _tag(variant: Variant, found: FoundBase, options: Options) -> str:
    registry = f"{options.registry.rstrip('/')}/" if options.registry else ""
    suffix = "-standin" if found.base.kind == STAND_IN else ""
    return f"{registry}{REPOSITORY}:{variant.tag}{suffix}"


def _tools_image(
    matrix: Matrix, variant: Variant, found: FoundBase, options: Options
) -> str | None:
    """The image that the stages run on; None for a root file system made here."""
    if options.tools == DEBIAN or (options.tools is None and found.base.debian):
        if variant.python != matrix.tools.python:
            raise user_error(
                "--tools debian",
                f"{variant.release.name} needs Python {variant.python}, "
                f"Debian {matrix.tools.suite} has {matrix.tools.python}",
                "--tools IMAGE",
            )
        return None
    return options.tools or options.mirrors.image(
        matrix.images["tools"].format(python=variant.python)
    )


# ---- what goes into a target ---------------------------------------------------------------------


def root(matrix: Matrix, target: Target) -> tuple[str, Debian] | None:
    """Name and packages of the root file system that a target stands on, if that is made here."""
    if not target.found.base.debian:
        return None
    return (CPU, matrix.cpu.debian) if target.variant.engine else ("base", matrix.stand_in)


def render(
    matrix: Matrix, target: Target, options: Options, environment: Environment | None = None
) -> str:
    return dockerfile(
        matrix,
        target.variant,
        target.found.base,
        tools_image=target.tools_image,
        share_cann=options.share_cann,
        environment=environment,
    )


def contexts(matrix: Matrix, target: Target, options: Options) -> dict[str, graph.Context]:
    """The directories and addresses that the stages take files from; "" is the main context."""
    result: dict[str, graph.Context] = {
        "": options.offline.roots_directory if options.offline else WORK / "roots",
        "stages": Path(__file__).parent / "stages",
        "locks": lock.LOCKS,
        "entrypoints": ROOT / "entrypoints",
        "env": ENV,
    }
    if options.cann_packages:
        result["cann-packages"] = options.cann_packages.resolve()
    if target.variant.engine:
        result["wheels"] = options.wheels or NO_WHEELS
    elif target.found.base.compiles:
        release = target.variant.release
        tags = {
            "vllm-ascend": f"v{release.vllm_ascend}",
            "mooncake": f"v{release.mooncake.version}",
            "yalantinglibs": release.mooncake.yalantinglibs,
        }
        for name in SOURCES:
            given = options.sources.get(name, matrix.sources[name])
            local = "://" not in given
            tagged = given if "#" in given else f"{given}#{tags.get(name, '')}".rstrip("#")
            result[f"{name}-source"] = Path(given).resolve() if local else tagged
    return result


def fingerprints(matrix: Matrix, target: Target, text: str, options: Options) -> dict[str, str]:
    """Stage → what it is made from, over all the architectures asked for."""
    stages = graph.parse(text)
    places: dict[str, graph.Context] = contexts(matrix, target, options)
    if options.cann_packages:
        places["cann-packages"] = (
            target.found.identity
        )  # checked by its sums; gigabytes to read again
    if target.variant.engine:
        places["wheels"] = "held to the lock's hashes"
    images = {target.found.base.image: target.found.identity} if target.found.base.image else {}
    build_arch = native_arch(matrix).name
    each = [
        graph.fingerprints(stages, places, images, arch.name, build_arch) for arch in options.arches
    ]
    return {stage: "-".join(dict.fromkeys(one[stage] for one in each)) for stage in stages}
