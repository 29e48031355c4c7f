"""Translates arguments of `docker run` into keys of a Compose file and of the engine's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from docker.errors import DockerException
from docker.utils import parse_bytes, parse_devices

from common.errors import EX_DATAERR, Finding, UserError, did_you_mean
from entrypoints.inputs import data

TABLE = Path(__file__).parent / "options.yaml"
COMPOSE = "compose"
ENGINE = "engine"


@dataclass(frozen=True)
class Conversion:
    """Converts a value for Compose and for the engine. Lists are joined, mappings merged."""

    compose: Callable[[str], Any]
    engine: Callable[[str], Any]


def translate(options: Sequence[str], form: str, where: str) -> dict[str, Any]:
    """The options as nested keys of `form`: COMPOSE or ENGINE. `where`: for findings.

    Raises UserError (65) with every option that has no such key or an invalid value.
    """
    result: dict[str, Any] = {}
    findings: list[Finding] = []
    for flag, text in _parse(options, where, findings):
        entry = _table()[flag]
        try:
            value = getattr(CONVERSIONS[entry["kind"]], form)(text)
        except (ValueError, LookupError, DockerException):
            what = f"{flag}: '{text}' is not a valid value"
            findings.append(Finding(where, what, "see `docker run --help`"))
            continue
        for key in reversed(entry[form].split(".")):
            value = {key: value}
        result = merge(result, value)
    if findings:
        raise UserError(findings, EX_DATAERR)
    return result


def merge(one: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings at every depth, join lists, and take `over` for everything else."""
    result = dict(one)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            result[key] = [*old, *value]
        else:
            result[key] = value
    return result


def _parse(
    options: Sequence[str], where: str, findings: list[Finding]
) -> Iterator[tuple[str, str]]:
    """Yield long flag and value of `--flag value`, `--flag=value` and `-f value`."""
    short = {entry["short"]: flag for flag, entry in _table().items() if "short" in entry}
    words = list(options)
    while words:
        word = words.pop(0)
        flag, joined, value = word.partition("=")
        flag = short.get(flag, flag)
        if flag not in _table():
            hint = f"{did_you_mean(flag, _table())}; " if flag.startswith("-") else ""
            fix = f"{hint}--to docker supports every option of docker run"
            findings.append(Finding(where, f"'{word}' has no translation", fix))
            while words and not words[0].startswith("-"):
                words.pop(0)  # its value
        elif joined:
            yield flag, value
        elif _table()[flag]["kind"] == "switch":
            yield flag, "true"
        elif words:
            yield flag, words.pop(0)
        else:
            findings.append(Finding(where, f"{flag} has no value", "add one"))


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    table: Mapping[str, Mapping[str, str]] = data.read(str(TABLE))
    return table


def _size(text: str) -> int:
    return int(parse_bytes(text))


def _cpus(text: str) -> int:
    return round(float(text) * 1_000_000_000)


def _switch(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _pair(text: str, separator: str = "=") -> dict[str, str]:
    key, _, value = text.partition(separator)
    return {key: value}


def _ulimit(text: str) -> tuple[str, int, int]:
    name, _, limits = text.partition("=")
    soft, joined, hard = limits.partition(":")
    return name, int(soft), int(hard if joined else soft)


def _ulimit_of_compose(text: str) -> dict[str, dict[str, int]]:
    name, soft, hard = _ulimit(text)
    return {name: {"soft": soft, "hard": hard}}


def _ulimit_of_engine(text: str) -> list[dict[str, Any]]:
    return [dict(zip(("Name", "Soft", "Hard"), _ulimit(text), strict=True))]


def _validated(check: Callable[[str], object]) -> Callable[[str], str]:
    """A function that returns a text unchanged after `check` accepted it."""

    def validated(text: str) -> str:
        check(text)
        return text

    return validated


def _as_list(text: str) -> list[str]:
    return [text]


CONVERSIONS = {
    "text": Conversion(str, str),
    "number": Conversion(int, int),
    "size": Conversion(_validated(_size), _size),
    "cpus": Conversion(_validated(_cpus), _cpus),
    "switch": Conversion(_switch, _switch),
    "list": Conversion(_as_list, _as_list),
    "pair": Conversion(_pair, _pair),
    "device": Conversion(_as_list, lambda text: list(parse_devices([text]))),
    "tmpfs": Conversion(_as_list, lambda text: _pair(text, ":")),
    "ulimit": Conversion(_ulimit_of_compose, _ulimit_of_engine),
}
