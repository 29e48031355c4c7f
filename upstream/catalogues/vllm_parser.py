"""Query the real `vllm serve` parser: `python vllm_parser.py options|verdicts`.

Runs in the environment of parser_environment.py. The answer is JSON on stdout; vLLM's own output
goes to stderr.

options: {"options": {name: {...}}, "variables": [...], "read": [...]}: the options as in env/flags,
    the variables of vllm.envs, and those that vLLM's sources read.
verdicts: a JSON list of command lines (`["serve", MODEL, ...]`) on stdin; for each, in order, null
    if vLLM would load the model, else the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

# `os.getenv("X")`, `environ["X"]`, `environ.get("X")`, `"X" in os.environ`
READS = re.compile(
    r"""(?:getenv|environ(?:\.get|\.pop|\.setdefault)?)\s*[(\[]\s*["'](VLLM_[A-Z0-9_]+)["']"""
    r"""|["'](VLLM_[A-Z0-9_]+)["']\s+(?:not\s+)?in\s+os\.environ"""
)
# Names of converters (vllm/engine/arg_utils.py) → types.
TYPES = {
    "loads": "json",
    "parse_dataclass": "json:dataclass",
    "union_dict_and_str": "json|str",
    "bool": "str",  # accepts any text; switches have no converter
    "<lambda>": "str",
}
_PARSE = {"_parse_type", "parse_type"}
_OPTIONAL = {"_optional_type", "optional_type"}


def keep_old_names() -> None:
    """Provide in torch._C._cpu, for vLLM up to 0.17, what later torch has only in torch.cpu."""
    torch = importlib.import_module("torch")
    for name, function in vars(torch.cpu).items():
        if name.startswith("_is_") and not hasattr(torch._C._cpu, name):
            setattr(torch._C._cpu, name, function)


def parsers() -> tuple[Any, Any, Any]:
    """The `vllm` parser, its `serve` parser, and the command behind it."""
    keep_old_names()
    try:
        utils = importlib.import_module("vllm.utils.argparse_utils")  # 0.12 and later
    except ModuleNotFoundError:
        utils = importlib.import_module("vllm.utils")
    top = utils.FlexibleArgumentParser(prog="vllm")
    (command,) = importlib.import_module("vllm.entrypoints.cli.serve").cmd_init()
    subparsers = top.add_subparsers(dest="subparser")
    serve = command.subparser_init(subparsers)
    return top, serve, command


# ---- options -------------------------------------------------------------------------------------


def options(serve: Any) -> dict[str, dict[str, Any]]:
    """Every option under its first long name."""
    found = {}
    for action in serve._actions:
        if action.option_strings and not isinstance(action, argparse._HelpAction):
            name, entry = describe(action)
            found[name] = entry
    return dict(sorted(found.items()))


def describe(action: Any) -> tuple[str, dict[str, Any]]:
    """The name and entry of an option; empty keys are left out."""
    names = list(action.option_strings)
    negative = None
    if isinstance(action, argparse.BooleanOptionalAction):
        (negative,) = (name for name in names if name.startswith("--no-"))
        names.remove(negative)
    name = next(one for one in names if one.startswith("--"))
    entry = {
        "type": type_of(action),
        "default": default_of(action),
        "aliases": sorted(one for one in names if one != name),
        "negative": negative,
        "choices": spell_choices(action) if action.choices else None,
        "nargs": None if action.nargs == 0 else action.nargs,
        "action": "append" if isinstance(action, argparse._AppendAction) else None,
    }
    return name, {key: value for key, value in entry.items() if value not in (None, [])}


def spell_choices(action: Any) -> list[str]:
    """The choices as texts: argparse compares the converted text with them."""
    convert = action.type or str
    texts = (str(choice) for choice in action.choices)
    return [text for text in texts if convert(text) in action.choices]


def type_of(action: Any) -> str:
    """The type: `flag` and `bool` take no value; `optional:` also accepts None and ""."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return "bool"
    if action.nargs == 0:
        return "flag"
    return "str" if action.type is None else converter_name(action.type)


def converter_name(convert: Callable[[str], Any]) -> str:
    """The name of a converter, inside vLLM's wrappers."""
    name = convert.__name__
    if name in _PARSE or name in _OPTIONAL:
        (inner,) = (
            cell.cell_contents for cell in convert.__closure__ or () if callable(cell.cell_contents)
        )
        return ("optional:" if name in _OPTIONAL else "") + converter_name(inner)
    return TYPES.get(name, name)


def default_of(action: Any) -> Any:
    """The default if it is JSON data; config objects are left out."""
    value = action.default
    if value is None or value is False or value is argparse.SUPPRESS or not is_json(value):
        return None
    return sorted(value) if isinstance(value, set) else value


def is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_json(v) for k, v in value.items())
    if isinstance(value, (list, tuple, set)):
        return all(map(is_json, value))
    return isinstance(value, (str, int, float)) and not dataclasses.is_dataclass(value)


def variables_read() -> list[str]:
    """The VLLM_* variables that any Python source of vLLM reads."""
    found = set()
    for path in Path(importlib.import_module("vllm").__file__ or "").parent.rglob("*.py"):
        for match in READS.finditer(path.read_text(encoding="utf-8", errors="replace")):
            found.add(match[1] or match[2])
    return sorted(found)


# ---- verdicts ------------------------------------------------------------------------------------


class ModelLoad(Exception):
    """The command would load its model now."""


def verdict(parse: Callable[[list[str]], Any], command: Any, argv: list[str]) -> str | None:
    """None, or vLLM's last line before it gives up."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            args = parse(argv)
            command.validate(args)
            command.cmd(args)
    except ModelLoad:
        return None
    except SystemExit as end:
        lines = said.getvalue().split("error: ", 1)[-1].split("\n")
        return f"exit {end.code}: {lines[0]}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "the command ended without loading a model"


def stop_before_loading() -> None:
    """Stop `vllm serve` after it has built its engine arguments: no socket, no model, no process.

    vLLM's earlier checks stay: combinations of flags, names of tool and reasoning parsers, and the
    engine's own arguments.
    """
    serve = importlib.import_module("vllm.entrypoints.cli.serve")
    server = importlib.import_module("vllm.entrypoints.openai.api_server")
    engine = importlib.import_module("vllm").AsyncEngineArgs
    make = engine.from_cli_args

    def reached(args: Any) -> NoReturn:
        make(args)
        raise ModelLoad

    def check(args: Any, **_: Any) -> tuple[str, None]:
        server.validate_api_server_args(args)
        return "", None

    def run_server(args: Any) -> NoReturn:
        check(args)
        reached(args)

    engine.from_cli_args = reached
    for name, stub in {
        "setup_server": check,
        "run_server": run_server,
        "setup_multiprocess_prometheus": lambda: None,
    }.items():
        if not hasattr(serve, name):
            raise AttributeError(f"vllm.entrypoints.cli.serve has no {name} to replace")
        setattr(serve, name, stub)


# ---- the command ---------------------------------------------------------------------------------


@contextlib.contextmanager
def separate_stdout() -> Iterator[Any]:
    """A stream to the real stdout; everything else that is printed goes to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as own:
        os.dup2(2, 1)
        yield own


def main(what: str) -> None:
    with separate_stdout() as out:
        top, serve, command = parsers()
        answer: Any
        if what == "options":
            variables = importlib.import_module("vllm.envs").environment_variables
            answer = {
                "options": options(serve),
                "variables": sorted(variables),
                "read": variables_read(),
            }
        else:
            stop_before_loading()
            answer = [verdict(top.parse_args, command, argv) for argv in json.load(sys.stdin)]
        json.dump(answer, out)


if __name__ == "__main__":
    main(sys.argv[1])
