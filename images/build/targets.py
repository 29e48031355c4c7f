"""What to build: each variant on its base, with its Dockerfile and all that it is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError, user_error
from common.paths import ENV, ROOT, WORK
from common.terminal import Say
from images.build import base as bases
from images.build import graph
from images.build.base import FoundBase
from images.build.inputs import Inputs
from images.build.options import Options, native_arch
from images.build.render import Base, Environment, dockerfile, in_image, layers
from images.locking import checks, cpu, slices, vendor
from images.matrix import CPU, SOURCES, STAND_IN, Arch, Debian, Matrix, Variant
from images.names import REPOSITORY

NO_WHEELS = WORK / "no-wheels"  # empty; the context of wheels without --wheels
DEBIAN = "debian"  # --tools debian: the builder's own root file system from Debian packages


@dataclass(frozen=True, eq=False)  # a key by identity: a base holds mappings
class BuildTarget:
    """One image to build: a variant on a base that was found.

    Its Dockerfile is rendered once without the base's environment, which a build has yet to
    capture, and once with it.
    """

    matrix: Matrix
    variant: Variant
    found: FoundBase
    tag: str
    tools_image: str | None  # what the stages run on; None for a root file system made here
    options: Options
    _texts: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """The tag as bake takes it for a name."""
        return self.tag.rpartition(":")[2].replace(".", "_")

    @property
    def base(self) -> Base:
        return self.found.base

    def for_arches(self, arches: Sequence[Arch]) -> BuildTarget:
        """The same image for other architectures; its Dockerfiles do not depend on them."""
        other = replace(self, options=replace(self.options, arches=tuple(arches)))
        other._texts.update(self._texts)
        return other

    @property
    def needs_vendor(self) -> bool:
        """Whether packages of the image come from the vendor."""
        return bool(in_image(self.matrix, self.variant, self.base).release.vendor) and not (
            self.variant.cpu_vllm
        )

    @property
    def python(self) -> str:
        """The Python of the image."""
        return in_image(self.matrix, self.variant, self.base).python

    @property
    def layers(self) -> list[str]:
        """The names of the layers on top of the base, from the bottom up."""
        return layers(self.matrix, self.variant, self.base)

    @property
    def root(self) -> tuple[str, Debian] | None:
        """Name and packages of the root file system below the image, if it is made here."""
        if not self.base.debian:
            return None
        if self.variant.cpu_vllm:
            return CPU, self.matrix.cpu.debian
        return "base", self.matrix.stand_in

    # ---- its Dockerfile --------------------------------------------------------------------------

    @cached_property
    def dockerfile(self) -> Dockerfile:
        """Without the base's environment."""
        return self._dockerfile(None)

    @property
    def environment_file(self) -> Path:
        """Where the base's environment is kept: captured once for all that is built on it."""
        captured = self.dockerfile.fingerprints["environment"][:64]
        return WORK / "environments" / captured / "environment.json"

    @property
    def captured(self) -> Dockerfile:
        """With the base's environment. Raises UserError (65) when it was not captured yet."""
        return self._dockerfile(Environment.read(self.environment_file))

    @property
    def latest(self) -> Dockerfile:
        """With the base's environment where an earlier build captured it."""
        return self.captured if self.environment_file.is_file() else self.dockerfile

    def _dockerfile(self, environment: Environment | None) -> Dockerfile:
        key = repr(environment)
        if key not in self._texts:
            self._texts[key] = dockerfile(
                self.matrix,
                self.variant,
                self.base,
                tools_image=self.tools_image,
                share_cann=self.options.share_cann,
                environment=environment,
            )
        return Dockerfile(self, self._texts[key])

    # ---- what goes into it -----------------------------------------------------------------------

    @cached_property
    def contexts(self) -> dict[str, graph.Context]:
        """The directories and addresses that the stages take files from; "" is the main one."""
        options = self.options
        result: dict[str, graph.Context] = {
            "": options.offline.roots_directory if options.offline else WORK / "roots",
            "stages": Path(__file__).parent / "stages",
            "locks": slices.LOCKS,
            "entrypoints": ROOT / "entrypoints",
            "env": ENV,
        }
        if options.cann_packages:
            result["cann-packages"] = options.cann_packages.resolve()
        if self.needs_vendor:  # a bundle has them among its wheels
            here = vendor.directory_of(self.variant.release)
            result["vendor"] = NO_WHEELS if options.offline else here
        if self.variant.cpu_vllm:
            result["wheels"] = options.wheels or NO_WHEELS
        elif self.base.compiles:
            release = self.variant.release
            tags = {
                "vllm-ascend": f"v{release.vllm_ascend}",
                "mooncake": f"v{release.mooncake.version}",
                "yalantinglibs": release.mooncake.yalantinglibs,
            }
            for name in SOURCES:
                given = options.sources.get(name, self.matrix.sources[name])
                local = "://" not in given
                tagged = given if "#" in given else f"{given}#{tags.get(name, '')}".rstrip("#")
                result[f"{name}-source"] = Path(given).resolve() if local else tagged
        return result

    @cached_property
    def inputs(self) -> Inputs:
        """The inputs of the image for all of its architectures, in any order.

        Its Dockerfile is the one without the base's environment: the environment follows from the
        base, and a machine that never built the image computes the same digest.
        """
        arches = sorted(self.options.arches, key=lambda arch: arch.name)
        stages = self.dockerfile.stages
        prints = self.for_arches(arches).dockerfile.fingerprints
        words = [*(arch.name for arch in arches), prints["image"]]
        used = graph.used_by(stages, "image")
        return Inputs(
            _sha256("\0".join(words)),
            {name: _sha256(prints[name])[:12] for name in used},
            {name: stages[name].parents for name in used},
        )


@dataclass(frozen=True, eq=False)
class Dockerfile:
    """A rendered Dockerfile of a target."""

    target: BuildTarget
    text: str

    @cached_property
    def stages(self) -> dict[str, graph.Stage]:
        return graph.parse(self.text)

    @property
    def used(self) -> list[str]:
        """The stages that an image and its captured environment are made from, in order."""
        found = {*graph.used_by(self.stages, "environment"), *graph.used_by(self.stages, "image")}
        return [name for name in self.stages if name in found]

    @cached_property
    def free_layers(self) -> list[str]:
        """The stages of the layers that need neither the base nor its environment."""
        return [
            name
            for name in self.stages
            if name.startswith("layer-")
            and name != "layer-venv"  # has the path of the base's interpreter
            and all(
                "$BUILDPLATFORM" in self.stages[used].text
                for used in graph.used_by(self.stages, name)
            )
        ]

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Stage → its inputs, for all requested architectures."""
        target, options = self.target, self.target.options
        contexts = dict(target.contexts)
        if options.cann_packages:
            # The installers' sums were checked; reading gigabytes again would tell no more.
            contexts["cann-packages"] = target.found.identity
        for name in ("wheels", "vendor"):
            if name in contexts:
                contexts[name] = "checked against the hashes of the lock"
        images = {target.base.image: target.found.identity} if target.base.image else {}
        build_arch = native_arch(target.matrix).name
        each = [
            graph.fingerprints(self.stages, contexts, images, arch.name, build_arch)
            for arch in options.arches
        ]
        return {name: "-".join(dict.fromkeys(one[name] for one in each)) for name in self.stages}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- finding bases -------------------------------------------------------------------------------


def resolve(
    matrix: Matrix,
    variants: Iterable[Variant],
    options: Options,
    say: Say,
    complete: bool = True,
) -> list[BuildTarget]:
    """Find the base of each variant and check its lock. Raises UserError with all problems.

    `complete`: write the vendor slice of a release if the lock lacks it.
    """
    targets, code = [], EX_DATAERR
    variants = list(variants)
    releases = {variant.release.name: variant.release for variant in variants}.values()
    if options.wheels and not any(
        variant.cpu_vllm or variant.release.vendor for variant in variants
    ):
        raise user_error("--wheels", "is for --platform cpu, and for packages of a vendor only")
    problems = list(checks.check_tools(matrix))
    for release in releases:
        disagreements = checks.check(matrix, release)
        problems += disagreements
        if complete and not disagreements and options.base != STAND_IN and not options.offline:
            try:
                vendor.complete(
                    *(matrix, release, options.arches, options.wheels),
                    *(options.mirrors.certificates, say),
                )
            except UserError as error:
                problems += error.findings
                code = max(code, error.exit_code)
    for vllm in {variant.cpu_vllm for variant in variants if variant.cpu_vllm}:
        problems += cpu.check(matrix, vllm, options.arches)
    for variant in variants:
        try:
            found = bases.find_base(matrix, variant, options, say)
        except UserError as error:
            if error.exit_code not in (EX_DATAERR, EX_UNAVAILABLE):
                raise
            problems += error.findings
            code = max(code, error.exit_code)
            continue
        tag, tools = _tag(variant, found, options), _tools_image(matrix, variant, found, options)
        targets.append(BuildTarget(matrix, variant, found, tag, tools, options))
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
    python = in_image(matrix, variant, found.base).python
    if options.tools == DEBIAN or (options.tools is None and found.base.debian):
        if python != matrix.tools.python:
            raise user_error(
                "--tools debian",
                f"{variant.release.name} needs Python {python}, "
                f"Debian {matrix.tools.suite} has {matrix.tools.python}",
                "--tools IMAGE",
            )
        return None
    published = matrix.images.tools.format(python=python)
    return options.tools or options.mirrors.image(published)
