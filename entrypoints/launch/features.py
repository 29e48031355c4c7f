"""What a recipe wants by name, in the form that its release has for it (env/releases)."""

from __future__ import annotations

from collections.abc import Mapping

from entrypoints.inputs.arguments import Flag, compact, from_value, scalar
from entrypoints.inputs.stack import Feature, Release
from entrypoints.problems import DATA, Advice, Problem, choose
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Forms(NamedTuple):
    """The features as flags and variables, and what there is to say about them."""

    flags: tuple[Flag, ...]
    env: Mapping[str, str]
    advice: tuple[Advice, ...]


def forms(
    wanted: Mapping[str, Any],
    at: str,
    release: Release,
    environ: Mapping[str, str],
    problems: list[Problem],
) -> Forms:
    """The forms of every wanted feature; `at` is where they are wanted.

    An unknown name, or a value that the release does not take, is a problem. A feature that the
    release does not have is left out, with a warning.
    """
    flags: list[Flag] = []
    env: dict[str, str] = {}
    advice: list[Advice] = []
    for name, value in wanted.items():
        where = f"{at}.{name}"
        feature = release.features.get(name)
        if feature is None:
            fix = choose(name, release.features)
            problems.append(Problem("unknown-feature", where, "is no feature", fix, "", DATA))
            continue
        if feature.missing:
            message = f"{name} is not in {release.name} and is left out: {feature.missing}"
            fix = "choose a release that has it, or take it out of the recipe"
            advice.append(Advice("feature-missing", message, fix, feature.source))
            continue
        if feature.was and environ.get(feature.was):
            where, value = feature.was, _number(environ[feature.was])
        if feature.values and not (isinstance(value, int) and int(value) in feature.values):
            message = f"{value!r} is not a value that {release.name} takes"
            fix = f"give one of {', '.join(map(str, feature.values))}"
            problems.append(Problem("bad-feature", where, message, fix, feature.source, DATA))
            continue
        if feature.env:
            env[feature.env] = str(int(value)) if isinstance(value, bool) else scalar(value)
        else:
            flags.append(_flag(feature, value))
    return Forms(tuple(flags), env, tuple(advice))


def _flag(feature: Feature, value: Any) -> Flag:
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if not feature.keys or k in feature.keys}
        value = {**feature.add, **kept}
    if "." in feature.arg:
        return Flag(f"--{feature.arg}", (compact(value),))
    return from_value(feature.arg, value)


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text
