"""How to build: the options of a build, and the variants of the matrix that they choose."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.errors import Finding, UserError, did_you_mean, user_error
from images.build.bundle import Bundle
from images.matrix import CPU, SOURCES, Arch, Matrix, Variant
from images.mirrors import Mirrors


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
    vllm: str | None = None,
) -> list[Variant]:
    """The variants that the options name. Raises UserError with every name that is wrong."""
    if vllm and platforms != [CPU]:
        raise user_error("--vllm", "is for --platform cpu alone")
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
    made = [partial(matrix.variant, release, *pair, vllm=vllm) for pair in pairs]
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
