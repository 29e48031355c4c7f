"""Compare labels with the matrix, the tag and the contents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from common.errors import EX_DATAERR, Finding, UserError, user_error
from images.attestations.sbom import SITE_PACKAGES
from images.build import render
from images.contents.packages import PythonPackage
from images.labels import BASE, BASE_NAME, LAYERS, PIN, RELEASE
from images.matrix import STAND_IN, Matrix, Variant

KINDS = ("image", "packages", STAND_IN, render.DEBIAN)
# A label that the matrix would not give is as wrong as one that it would and that is not there.
OURS = (PIN, "ascend.fallback.", "ascend.stand-in")
SUFFIX = r"(?P<stand_in>-standin)?(-[0-9a-f]{12})?"


def by_tag(matrix: Matrix, tag: str) -> tuple[Variant, bool] | None:
    """The variant that a tag names, and whether it is a stand-in."""
    for release in matrix.releases:
        for variant in (*matrix.variants(release), *matrix.cpu_variants(release)):
            if named := re.fullmatch(re.escape(variant.tag) + SUFFIX, tag):
                return variant, bool(named["stand_in"])
    return None


def by_labels(matrix: Matrix, labels: Mapping[str, str]) -> Variant:
    """The variant that labels name. Raises UserError (65) if the matrix lacks it."""
    names = [labels.get(name, "") for name in (RELEASE, "ascend.platform", "ascend.os")]
    release, platform, os = names
    try:
        return matrix.variant(release or "none", platform, os, labels.get(f"{PIN}vllm"))
    except UserError:
        given = ", ".join(f"'{name}'" for name in names)
        what = f"release, platform and OS are {given}: the matrix has no such image"
        raise user_error(RELEASE, what, exit_code=EX_DATAERR) from None


def problems(
    matrix: Matrix, labels: Mapping[str, str], tag: str, python: list[PythonPackage]
) -> Iterator[Finding]:
    """Where labels differ from tag, matrix and contents."""
    named = by_tag(matrix, tag)
    kind = labels.get(BASE, "")
    if kind not in KINDS:
        yield Finding(BASE, f"is '{kind}'", " or ".join(KINDS))
        kind = "image"
    if named and named[1] != (kind == STAND_IN):
        what = "a stand-in's" if named[1] else "not a stand-in's"
        yield Finding(BASE, f"is '{kind}', but the tag {tag} is {what}")
    variant = named[0] if named else by_labels(matrix, labels)
    base = render.Base(kind, image=labels.get(BASE_NAME, "") if kind == "image" else "")
    wanted = render.labels(matrix, variant, base)
    for name, value in wanted.items():
        if name not in (BASE_NAME, BASE) and labels.get(name) != value:
            found = f"is '{labels[name]}'" if name in labels else "is missing"
            yield Finding(name, f"{found}, the matrix says '{value}' for {variant.tag}")
    for name in sorted(labels):
        if name.startswith(OURS) and name not in wanted:
            yield Finding(name, f"is '{labels[name]}', the matrix has no such label here")
    yield from _pins(variant, labels, python)


def layers(labels: Mapping[str, str], count: int) -> Iterator[Finding]:
    """Check that the image has at least as many layers as it names."""
    named = len(labels.get(LAYERS, "").split())
    if named > count:
        yield Finding(LAYERS, f"names {named} layers, the image has {count}")


def _pins(
    variant: Variant, labels: Mapping[str, str], python: list[PythonPackage]
) -> Iterator[Finding]:
    """Compare pins with what is installed; Mooncake compiled from source leaves no trace."""
    installed = {
        canonicalize_name(one.name): one.version
        for one in python
        if SITE_PACKAGES.fullmatch(one.directory)
    }
    for name in ("torch", "torch-npu", "triton-ascend", "vllm", "vllm-ascend", "mooncake"):
        pin = labels.get(f"{PIN}{name}")
        package = variant.release.mooncake.package if name == "mooncake" else name
        found = installed.get(canonicalize_name(package))
        if found is None:
            if pin and name != "mooncake":
                yield Finding(f"{PIN}{name}", f"is '{pin}', but {package} is not installed")
        elif pin and _public(found) != _public(pin):
            yield Finding(f"{PIN}{name}", f"is '{pin}', but {package} {found} is installed")


def _public(version: str) -> str:
    """Without the local part: 0.13.0 of 0.13.0+empty."""
    try:
        return Version(version).public
    except InvalidVersion:
        return version
