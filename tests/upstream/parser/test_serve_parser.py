"""The commands and the catalogue before vLLM's own parser, as it is in each release."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from entrypoints.findings import Finding
from entrypoints.inputs import catalogue, stack
from entrypoints.inputs.arguments import parse
from entrypoints.inputs.catalogue import Catalogue
from tests.upstream.parser.conftest import (
    ALWAYS,
    ASKED,
    DEFAULT,
    RELEASES,
    VERSIONS,
    Command,
    commands,
    verdicts,
)

pytestmark = pytest.mark.parser

Argv = tuple[str, ...]

WRONG = {  # flags -> what vLLM 0.13.0 says of them
    '--rope-scaling {"factor":4}': "exit 2: unrecognized arguments: --rope-scaling",
    "--port x": "exit 2: argument --port: invalid int value",
    "--headless --api-server-count 2": "ValueError: api_server_count can't be set in headless mode",
    "--compilation-config.cudagraph_mode FAST": "KeyError: 'FAST'",
    "--enable-auto-tool-choice": "TypeError: Error: --enable-auto-tool-choice requires",
    "--enable-auto-tool-choice --tool-call-parser x": "KeyError: 'invalid tool call parser: x",
    "--headless extra": "exit 2: unrecognized arguments: extra",
}


@functools.cache
def answers(version: str) -> dict[Argv, str | None]:
    """What a vLLM says to everything that the tests show it."""
    argvs = [c.argv for c in commands_of(version)] + [bare(line) for line in lines(version)]
    argvs += wrong() if version == ALWAYS else []
    return dict(zip(argvs, verdicts(version, argvs), strict=True))


def commands_of(version: str) -> list[Command]:
    return [
        c for name, vllm in RELEASES.items() if vllm == version for c in commands(name) if c.argv
    ]


def bare(line: list[str]) -> Argv:
    return ("vllm", "serve", "m", *line)


@functools.cache
def wrong() -> list[Argv]:
    """A command that passes, with each of WRONG added to it."""
    good = next(c.argv for c in commands(DEFAULT) if "--headless" not in c.argv)
    return [(*good, *words.split(" ")) for words in WRONG]


def test_every_recipe_has_its_commands_on_the_default_release() -> None:
    found = commands(DEFAULT)
    assert RELEASES[DEFAULT] == ALWAYS
    assert [(c.node, [p.line() for p in c.refused]) for c in found if c.refused] == []
    assert {c.argv[:2] for c in found} == {("vllm", "serve")}


@pytest.mark.parametrize("release", ASKED)
def test_vllm_takes_every_command(release: str) -> None:
    """Through its parser, its checks of combinations, and the making of the engine's arguments."""
    made = [c for c in commands(release) if c.argv]
    assert made
    said = answers(RELEASES[release])
    assert {c.node: said[c.argv] for c in made if said[c.argv]} == {}


def test_a_wrong_command_is_found() -> None:
    """The test above can fail."""
    said = answers(ALWAYS)
    for argv, start in zip(wrong(), WRONG.values(), strict=True):
        assert (said[argv] or "accepted").startswith(start)


# ---- the catalogue against the parser ------------------------------------------------------------

GOOD = {"int": "1", "float": "0.5", "str": "x", "json|str": "x"}
BAD = {"int": "x", "float": "x", "json|str": "{x}"}
# Options with a check of their own behind the parser's: a value that it takes.
OWN = {"--lora-modules": "name=path"}
# One names a file, which would be read; the other is a variable of the entrypoint.
LEFT_OUT = ("--config", "--model")


def catalogue_of(version: str) -> Catalogue:
    release = stack.release(next(n for n, vllm in RELEASES.items() if vllm == version), [])
    assert release is not None
    return catalogue.load(release)


def lines(version: str) -> Iterator[list[str]]:
    """Good and bad uses of every option, in every spelling."""
    for name, entry in catalogue_of(version).options.items():
        if name in LEFT_OUT:
            continue
        kind = entry["type"].removeprefix("optional:")
        if kind in ("flag", "bool"):
            yield from ([name], [name, "x"], [f"{name}=true"], [f"{name}.a", "1"])
            for other in (*entry.get("aliases", ()), entry.get("negative", f"--no-{name[2:]}")):
                yield from ([other], [other, "x"])
            continue
        good = GOOD.get(kind) or ("32k" if kind.startswith("human") else "{}")
        good = OWN.get(name, entry["choices"][0] if "choices" in entry else good)
        bad = "no-such" if "choices" in entry else BAD.get(kind, "{")
        yield from ([name], [name, good], [f"{name}={good}"], [name.replace("-", "_"), good])
        yield from ([name, ""], [name, "None"], [name[:-1], good], [f"--no-{name[2:]}"])
        yield from ([f"--{name[2:].replace('-', '_')}", good], [alias_or(name, entry), good])
        if kind != "str" or "choices" in entry:
            yield from ([name, bad], [f"{name}.a", "1"], [f"{alias_or(name, entry)}.a", "1"])
        if name not in OWN:
            yield [name, good, good]
    for words in ("-O3", "-O 2", "-O=1", "-O", "-n2", "-qascend", "-tp8", "-t 8", "--nothing"):
        yield words.split(" ")
    for words in ("--max-model-len 1.5k", "--max-model-len 1.5K", "--max-model-len auto"):
        yield words.split(" ")


def alias_or(name: str, entry: Mapping[str, Any]) -> str:
    return str(entry.get("aliases", [name])[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_catalogue_refuses_what_the_parser_refuses(version: str) -> None:
    known, answered = catalogue_of(version), answers(version)
    shown = {bare(line): line for line in lines(version)}
    differ = {}
    for argv, line in shown.items():
        said = answered[argv] or ""
        if "validation error" in said and "JSON" not in said:
            continue  # of a key inside a configuration, which the catalogue does not know
        problems: list[Finding] = []
        catalogue.check_flags(parse(line, known.aliases, problems), "", known, problems)
        if bool(problems) != said.startswith("exit 2"):
            differ[" ".join(line)] = (said, [p.line() for p in problems])
    assert differ == {}
    assert {answered[argv] is None for argv in shown} == {True, False}
