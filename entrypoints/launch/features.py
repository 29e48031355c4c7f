"""The features that a recipe names, in the form that the release has for each (env/releases)."""

from __future__ import annotations

from collections.abc import Mapping

from entrypoints.findings import Finding, did_you_mean
from entrypoints.inputs.arguments import Flag, compact, from_value, scalar
from entrypoints.inputs.stack import Feature, Release
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Forms(NamedTuple):
    """The features as flags and variables."""

    flags: tuple[Flag, ...]
    env: Mapping[str, str]


def forms(
    wanted: Mapping[str, Any],
    at: str,
    release: Release,
    environ: Mapping[str, str],
    findings: list[Finding],
) -> Forms:
    """The forms of every wanted feature; `at`: where they are requested.

    An unknown name, or a value that the release does not accept, is an error. A feature that the
    release does not have is left out, with a warning.
    """
    flags: list[Flag] = []
    env: dict[str, str] = {}
    for name, value in wanted.items():
        where = f"{at}.{name}"
        feature = release.features.get(name)
        if feature is None:
            findings.append(
                finding("unknown-feature", where, known=did_you_mean(name, release.features))
            )
            continue
        if feature.missing:
            named = {"name": name, "release": release.name, "missing": feature.missing}
            findings.append(finding("feature-missing", source=feature.source, **named))
            continue
        if feature.was and environ.get(feature.was):
            where, value = feature.was, _number(environ[feature.was])
        if feature.values and not (isinstance(value, int) and int(value) in feature.values):
            known = ", ".join(map(str, feature.values))
            values = {"value": value, "release": release.name, "known": known}
            findings.append(finding("bad-feature", where, source=feature.source, **values))
            continue
        if feature.env:
            env[feature.env] = str(int(value)) if isinstance(value, bool) else scalar(value)
        else:
            flags.append(_flag(feature, value))
    return Forms(tuple(flags), env)


def _flag(feature: Feature, value: Any) -> Flag:
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if not feature.keys or k in feature.keys}
        value = {**feature.add, **kept}
    if "." in feature.arg:
        return Flag(f"--{feature.arg}", (compact(value),))
    return from_value(feature.arg, value)


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text
