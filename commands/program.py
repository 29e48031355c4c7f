"""The command line: `ascend-images`, and `invoke` in a checkout. It lists commands by reader."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import invoke
from invoke import Collection, Exit
from invoke.exceptions import ParseError

import common
from commands import (
    build,
    cluster,
    develop,
    importing,
    inspect,
    launch,
    publish,
    upstream,
    validate,
)
from commands.command import Command, ending
from commands.completion import candidates
from commands.parser import Contexts, Parser, arguments, nearest, usage
from common.errors import EX_USAGE, user_error

NAME = "ascend-images"
GROUPS = {
    "Run": (launch, cluster, importing, validate),
    "Build": (build, inspect),
    "Publish": (publish,),
    "Maintain": (upstream, develop),
}
OPTIONS = (
    ("--help, -h", "show this, or the help of a command: COMMAND --help"),
    ("--list, -l", "list the commands"),
    ("--version, -V", "show the version"),
    ("--print-completion-script SHELL", "print a completion script for bash, zsh or fish"),
)


def _names(modules: Iterable[object]) -> Iterator[tuple[str, Command]]:
    for module in modules:
        for one in vars(module).values():
            if isinstance(one, Command):
                yield ("cluster." if module is cluster else "") + one.name, one


def _collection() -> Collection:
    top, of_cluster = Collection(), Collection("cluster")
    for name, one in _names(module for modules in GROUPS.values() for module in modules):
        (of_cluster if "." in name else top).add_task(one)
    top.add_collection(of_cluster)
    return top


namespace = _collection()


class Program(invoke.Program):
    """Invoke's program with this project's parser, help and list of commands."""

    @property
    def binary(self) -> str:
        """The name it was called by; `invoke` also for `python -m invoke`."""
        return "invoke" if self.called_as in ("", "inv", "__main__.py") else self.called_as

    def parse_core(self, argv: list[str] | None) -> None:
        try:
            super().parse_core(argv)
        except ParseError as error:
            raise Exit(f"error: {error}", code=EX_USAGE) from None
        finally:
            sys.dont_write_bytecode = False  # Invoke sets it; every start would compile anew

    def parse_tasks(self) -> None:
        contexts = Contexts(self.collection)
        with ending():
            self.parser: Any = Parser(contexts, self.core[0], self.binary)
            words = [] if self.args.complete.value else self.core.unparsed
            self.tasks = self.parser.parse_argv(words)
            self.tasks.pop(0)

    def parse_cleanup(self) -> None:
        with ending():
            name = self.args.help.value
            if isinstance(name, str) and name not in self.parser.contexts:
                fix = nearest(name, self.parser.contexts) or f"{self.binary} --list"
                raise user_error(name, "is not a command", fix)
            if self.args.complete.value:
                options = self.initial_context.flag_names()
                print("\n".join(candidates(self.core.remainder, self.parser.contexts, options)))
                raise Exit
            super().parse_cleanup()

    def print_help(self) -> None:
        print(f"Usage: {self.binary} COMMAND [ARGUMENT]... [--OPTION]...\n\nOptions:")
        _columns(OPTIONS)
        self.list_tasks()

    def list_tasks(self) -> None:
        """List the commands by reader; a part of them, or other formats, as Invoke does."""
        if self.list_root or self.list_format != "flat":
            super().list_tasks()
            return
        width = max(map(len, self.parser.contexts))
        for group, modules in GROUPS.items():
            print(f"\n{group}:")
            pairs = [(name, (one.__doc__ or "").splitlines()[0]) for name, one in _names(modules)]
            _columns(pairs, width)
        print(f"\n{self.binary} COMMAND --help explains a command.")

    def print_task_help(self, name: str) -> None:
        context = self.parser.contexts[name]
        first, *more = textwrap.dedent("    " + (self.collection[name].__doc__ or "")).splitlines()
        text = "\n".join([f"{first.strip()}.", *more]).strip()
        print(f"Usage: {usage(self.binary, context)}\n")
        print(text.replace("invoke ", f"{self.binary} "))
        own = list(arguments(context))
        if own:
            print("\nArguments:")
            _columns((one.metavar, one.help or "") for one in own)
        print("\nOptions:")
        options = [one for one in context.flags.values() if one not in own]
        rows = [(_option_text(one), one.help or "") for one in options]
        _columns([*rows, ("--help", "show this")])


def _option_text(option: invoke.Argument) -> str:
    name = option.names[0]
    if option.kind is bool:
        return f"--no-{name}" if option.default else f"--{name}"
    value = "N" if option.kind in (int, float) else name.rpartition("-")[2].upper()
    return f"{'-' if len(name) == 1 else '--'}{name} {value}"


def _columns(rows: Iterable[tuple[str, str]], width: int = 0) -> None:
    """Print names with their texts beside them, or below if the name is too long."""
    rows = list(rows)
    width = width or min(28, max(len(name) for name, _ in rows))
    room = max(30, min(shutil.get_terminal_size((100, 24)).columns, 120) - width - 4)
    for name, text in rows:
        lines = textwrap.wrap(text, room) or [""]
        if len(name) > width:
            print(f"  {name}")
        else:
            print(f"  {name:{width}}  {lines.pop(0)}".rstrip())
        for line in lines:
            print(" " * (width + 4) + line)


program = Program(name=NAME, namespace=namespace, version=common.__version__)
