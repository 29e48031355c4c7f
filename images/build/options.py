"""Options of a build, and the variants of the matrix that they select."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.errors import Finding, UserError, did_you_mean, user_error
from images.build.bundle import Bundle
from images.matrix import CPU, SOURCES, Arch, Matrix, Variant
from images.mirrors import Mirrors


@dataclass(frozen=True)
class Options:
    """How to build. What to build is a list of variants."""

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

    @property
    def bundled(self) -> Mapping[str, str] | None:
        """Reference → identity of the images in the bundle of an offline build."""
        return self.offline.bases if self.offline else None


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


def parse_arches(matrix: Matrix, names: list[str]) -> tuple[Arch, ...]:
    """The named architectures, or this machine's. Raises UserError (64)."""
    return tuple(matrix.arch(name) for name in names) or (native_arch(matrix),)


def parse_sources(given: list[str]) -> dict[str, str]:
    """Parse `NAME=DIR|URL` options. Raises UserError (64) with every invalid one."""
    problems, result = [], {}
    for item in given:
        name, _, value = item.partition("=")
        if name not in SOURCES:
            problems.append(
                Finding(
                    "--source",
                    f"'{item}': unknown source '{name}'",
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


def wheels_directory(given: str | None) -> Path | None:
    """The directory of `--wheels`. Raises UserError (64) when it does not exist."""
    if given and not Path(given).is_dir():
        raise user_error("--wheels", f"no such directory: {given}")
    return Path(given).resolve() if given else None


def select_variants(
    matrix: Matrix,
    release: str | None,
    platforms: list[str],
    oses: list[str],
    everything: bool,
    vllm: str | None = None,
) -> list[Variant]:
    """The variants that the options select. Raises UserError (64) with every unknown name."""
    if vllm and platforms != [CPU]:
        raise user_error("--vllm", "is for --platform cpu only")
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
    """Collect the findings of the calls, without repetition."""
    problems: list[Finding] = []
    for call in calls:
        try:
            call()
        except UserError as error:
            problems += error.findings
    return list(dict.fromkeys(problems))
