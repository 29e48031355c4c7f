"""Render the Dockerfile of a variant from the matrix and the templates, deterministically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError, user_error
from images.build.stages.standin.environment import UnknownCannVersion, cann, static_environment
from images.labels import BASE, BASE_NAME, LAYERS, PIN, RELEASE
from images.locking.slices import layer_of, vllm_source
from images.matrix import INDEX, STAND_IN, Matrix, Variant

TEMPLATES = Path(__file__).parent / "layers"
DEBIAN = "debian"
LIBRARY_DIRECTORY = "/usr/local/lib"  # where Mooncake's own libraries are; #6949


@dataclass(frozen=True)
class Base:
    """Where CANN comes from: an `image`, its `packages` (installers), or a `stand-in`.

    For platform cpu, where the distribution comes from: an `image`, or `debian`'s packages.
    """

    kind: str
    image: str = ""
    installers: Mapping[str, str] = field(default_factory=dict)
    os_image: str = ""

    @property
    def debian(self) -> bool:
        """Whether the lowest layer is a root file system made of Debian packages."""
        return self.kind in (STAND_IN, DEBIAN) or (self.kind == "packages" and not self.image)

    @property
    def compiles(self) -> bool:
        """Whether the base has CANN's compiler, for kernels and Mooncake."""
        return self.kind != STAND_IN

    @property
    def describe(self) -> str:
        return {
            "image": self.image,
            "packages": "CANN's installers",
            STAND_IN: "a stand-in for CANN",
            DEBIAN: "Debian's packages",
        }[self.kind]


@dataclass(frozen=True)
class Environment:
    """The output of the environment stage: ENV before and after set_env.sh, and the interpreter."""

    python: str
    base: Mapping[str, str]
    changed: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Environment:
        """Read the file of an environment stage. Raises UserError (65) when it is not one."""
        try:
            raw = json.loads(path.read_text())
            given = cls(raw["python"], raw["base"], raw["changed"])
            values = [given.python, *given.base.values(), *given.changed.values()]
            if not all(isinstance(value, str) for value in values):
                raise TypeError("every value must be a string")
            return given
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise user_error(
                str(path), f"is not a captured environment: {error!r}", exit_code=EX_DATAERR
            ) from None


def dockerfile(
    matrix: Matrix,
    variant: Variant,
    base: Base,
    *,
    tools_image: str | None = None,
    share_cann: bool = False,
    environment: Environment | None = None,
) -> str:
    """Render a Dockerfile. Raises UserError (64) when there is no stand-in for the release."""
    template = _templates().get_template("cpu.j2" if variant.cpu_vllm else "Dockerfile.j2")
    made = in_image(matrix, variant, base)
    text: str = template.render(
        variant=made,
        base=base,
        tools_image=tools_image,
        share_cann=share_cann,
        python=made.python,
        upper_layers=_upper_layers(matrix, variant, base),
        interpreter=environment.python if environment else f"/usr/bin/python{made.python}",
        own_environment=_own_environment(variant, base),
        labels=labels(matrix, variant, base),
        environment=_baked(environment, share_cann) if environment else None,
        **(_cpu_values(matrix, variant) if variant.cpu_vllm else _values(matrix, made, base)),
        own_slices=matrix.stand_in_layers(variant.release) if base.kind == STAND_IN else (),
    )
    return text


def in_image(matrix: Matrix, variant: Variant, base: Base) -> Variant:
    """The variant with the versions that its image has: a stand-in differs from the release."""
    if base.kind != STAND_IN:
        return variant
    return replace(variant, release=matrix.stand_in_release(variant.release))


def _cpu_values(matrix: Matrix, variant: Variant) -> dict[str, Any]:
    vllm = variant.cpu_vllm
    return {
        "lock": vllm and vllm.lock,
        "python_layers": list(matrix.cpu.layers),
        "alias": f"vllm={variant.pins['vllm']}+cpu",
        "torch_of_index": bool(vllm and vllm.torch_from == INDEX),
        "packager": variant.os.packager,
        "os_packages": matrix.cpu.debian.packages,
    }


def _values(matrix: Matrix, variant: Variant, base: Base) -> dict[str, Any]:
    release, mooncake, stand_in = variant.release, variant.platform.mooncake, base.kind == STAND_IN
    python_layers = list(matrix.python_layers)
    vendor = {layer_of(matrix.layers, name) for name in release.vendor}
    compiled = base.compiles and mooncake and release.mooncake.origin == "source"
    packager, distribution = (
        ("apt", matrix.stand_in.suite) if base.debian else (variant.os.packager, variant.os.name)
    )
    os_packages = (
        *release.os_packages[packager],
        *(matrix.mooncake_source["run"][distribution] if compiled else ()),
        *(matrix.debian_packages if base.debian else ()),
    )
    return {
        "lock": release.name,
        "vllm_source": vllm_source(release),
        "vendor_layers": vendor,
        "python_layers": python_layers,
        "stub_layers": [*python_layers, *(["mooncake"] if mooncake else [])],
        "has_compiled": base.compiles and bool(release.compiled),
        "mooncake_compiled": compiled,
        "mooncake_packages": matrix.mooncake_source["build"][packager],
        "packager": packager,
        "os_packages": list(dict.fromkeys(os_packages)),
        "installers": base.installers,
        "static_environment": stand_in_environment(matrix, variant) if stand_in else {},
        "site_packages": f"/opt/vllm/lib/python{release.python}/site-packages",
        "kernels_path": _kernels_path(variant) if stand_in else "",
    }


def preview(
    matrix: Matrix,
    variant: Variant,
    base: str | None,
    share_cann: bool,
    environment: Environment | None,
) -> str:
    """The Dockerfile that `invoke render` prints, on the published base unless one is given."""
    tools: str | None = matrix.images.tools.format(python=variant.python)
    if variant.cpu_vllm:
        packages = base == DEBIAN
        where = Base(DEBIAN) if packages else Base("image", image=base or matrix.cpu.image)
        tools = None if packages else tools
        return dockerfile(matrix, variant, where, tools_image=tools, environment=environment)
    os_image = matrix.images.os[variant.os.name]
    if base == STAND_IN:
        where, tools = Base(STAND_IN, os_image=os_image), None
    else:
        where = Base("image", image=base or matrix.cann_image(variant), os_image=os_image)
    return dockerfile(
        matrix, variant, where, tools_image=tools, share_cann=share_cann, environment=environment
    )


def layers(matrix: Matrix, variant: Variant, base: Base) -> list[str]:
    """The names of the layers on top of the base, from the bottom up."""
    return ["venv", "workdir", *_upper_layers(matrix, variant, base)]


def _upper_layers(matrix: Matrix, variant: Variant, base: Base) -> list[str]:
    if variant.cpu_vllm:
        return [*matrix.cpu.layers, "proxy", "entrypoint"]
    return [
        *matrix.python_layers,
        *(["compiled"] if base.compiles and variant.release.compiled else []),
        "utilities",
        *(["mooncake"] if variant.platform.mooncake else []),
        *("vllm", "proxy", "vllm-ascend", "entrypoint"),
    ]


def labels(matrix: Matrix, variant: Variant, base: Base) -> dict[str, str]:
    """The labels of an image: OCI's, every pin, its layers, and its fallbacks.

    A build adds the digests that only it knows.
    """
    stated, variant = variant.release, in_image(matrix, variant, base)
    release = variant.release
    result = {
        "org.opencontainers.image.title": f"vLLM for {variant.platform.title}",
        RELEASE: release.name,
        "org.opencontainers.image.created": f"{variant.published}T00:00:00Z",
        BASE_NAME: base.image or base.kind,
        "ascend.platform": variant.platform.name,
        **({} if variant.cpu_vllm else {"ascend.soc-version": variant.platform.soc_version}),
        "ascend.os": variant.os.name,
        BASE: base.kind,
        LAYERS: " ".join(layers(matrix, variant, base)),
        **{
            f"{PIN}{name.replace('_', '-')}": version
            for name, version in variant.pins.items()
            if name != "mooncake" or variant.platform.mooncake
        },
    }
    if variant.cpu_vllm and variant.cpu_vllm.torch_from == INDEX:
        result["ascend.fallback.torch"] = "the package index's build, without its GPU libraries"
    if base.kind == STAND_IN:
        result["ascend.stand-in"] = "no CANN in this image: it imports and plans, but cannot serve"
        result["ascend.fallback.vllm-ascend"] = "without kernels"
        for name in stated.vendor:
            result[f"ascend.fallback.{name}"] = (
                f"{release.version_of(name)} of the package index, not {stated.version_of(name)}"
            )
        if release.python != stated.python:
            result["ascend.fallback.python"] = f"{release.python} of Debian, not {stated.python}"
        for package in release.compiled:
            result[f"ascend.fallback.{package}"] = "left out"
        if release.mooncake.origin == "source" and variant.platform.mooncake:
            result["ascend.fallback.mooncake"] = "the package index's wheel, without ascend_direct"
    return result


def stand_in_environment(matrix: Matrix, variant: Variant) -> dict[str, str]:
    """ENV of the stand-in for a release's CANN. Raises UserError (64) when there is none."""
    try:
        return static_environment(variant.release.cann, next(iter(matrix.arches)))
    except UnknownCannVersion as error:
        raise user_error("--base stand-in", str(error), "--base IMAGE or another release") from None


def _kernels_path(variant: Variant) -> str:
    home = cann(variant.release.cann).home
    return f"{home}/opp/built-in/op_impl/ai_core/tbe/kernel/{variant.platform.soc_version}"


def _baked(environment: Environment, all_of_it: bool) -> dict[str, str]:
    """ENV of the image: the scripts' changes, or everything if the base's ENV is not inherited."""
    values = {**(environment.base if all_of_it else {}), **environment.changed}
    for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH"):
        values.setdefault(name, environment.base.get(name, ""))
    values["PATH"] = _path("/opt/vllm/bin", values["PATH"])
    values["LD_LIBRARY_PATH"] = _path(values["LD_LIBRARY_PATH"], LIBRARY_DIRECTORY)
    values["PYTHONPATH"] = _path(values["PYTHONPATH"])
    broken = [name for name, value in values.items() if "\n" in value or "\r" in value]
    if broken:
        raise UserError(
            [
                Finding(name, f"cannot be in ENV: {values[name]!r} has a line break")
                for name in broken
            ],
            EX_DATAERR,
        )
    return dict(sorted(values.items()))


def _path(*parts: str) -> str:
    """Join search paths without repeated or empty entries: empty is the working directory."""
    entries = (entry.rstrip("/") for part in parts for entry in part.split(":"))
    return ":".join(dict.fromkeys(entry for entry in entries if entry))


def _own_environment(variant: Variant, base: Base) -> dict[str, str]:
    own = {
        "ASCEND_PLATFORM": variant.platform.name,
        **({} if variant.cpu_vllm else {"SOC_VERSION": variant.platform.soc_version}),
        "VIRTUAL_ENV": "/opt/vllm",
        "VLLM_ASCEND_RELEASE": variant.facts,
    }
    return {**own, "CANN_STANDIN": "1"} if base.kind == STAND_IN else own


def _quoted(value: str) -> str:
    """Quote a value of ENV or LABEL; inside double quotes, $ would start a variable."""
    for character in '\\"$':
        value = value.replace(character, f"\\{character}")
    return f'"{value}"'


@cache
def _templates() -> Any:
    from jinja2 import Environment as Templates
    from jinja2 import FileSystemLoader, StrictUndefined

    templates = Templates(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=False,
        autoescape=False,
    )
    templates.filters["quoted"] = _quoted
    return templates
