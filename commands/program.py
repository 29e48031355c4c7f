"""The command line: `ascend-images`, and `invoke` in a checkout.

Invoke's program with a parser of its own: an argument may be repeatable, --help works before what
is missing, what is typed wrong gets a suggestion and exit code 64, and commands are listed by
reader.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import invoke
from invoke import Collection, Exit, ParserContext, ParseResult
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
from commands.command import Command, Parameter, ending
from commands.completion import candidates
from common.errors import EX_USAGE, did_you_mean, user_error

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

CORE = tuple(re.findall(r"--[\w-]+", " ".join(name for name, _ in OPTIONS)))


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


class Contexts(Mapping[str, ParserContext]):
    """The commands by name; only those that are asked for have their signatures read."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._names = collection.task_names

    def __getitem__(self, name: str) -> ParserContext:
        if name not in self._names:
            raise KeyError(name)
        return ParserContext(name=name, args=self._collection[name].get_arguments())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Parser(invoke.Parser):
    """Reads commands with their options and arguments."""

    def __init__(self, contexts: Contexts, initial: ParserContext, binary: str) -> None:
        super().__init__(initial=initial)
        self.contexts: Any = contexts
        self.binary = binary

    def parse_argv(self, argv: list[str]) -> ParseResult:
        """The initial context and one for each command, with their values.

        Ends at --help, whatever is missing. Raises UserError (64) for what is typed wrong.
        """
        result = ParseResult([self.initial])
        context: ParserContext = result[0]
        tokens = iter(argv)
        for token in tokens:
            if token in ("-h", "--help") and context.name:
                result[0].args["help"].value = context.name
                return result
            if token.startswith("-") and token != "-":
                self._option(context, token, tokens)
            elif parameter := _next_positional(context):
                parameter.set_value(token)
            elif token in self.contexts:
                self._complete(context)
                context = self.contexts[token]
                result.append(context)
            elif context.name:
                raise user_error(
                    context.name, f"takes no argument '{token}'", usage(self.binary, context)
                )
            else:
                fix = _nearest(token, self.contexts) or f"{self.binary} --list"
                raise user_error(token, "is not a command", fix)
        self._complete(context)
        return result

    def _option(self, context: ParserContext, token: str, rest: Iterator[str]) -> None:
        flag, separator, value = token.partition("=")
        if flag in context.inverse_flags and not separator:
            context.flags[context.inverse_flags[flag]].value = False
            return
        if flag not in context.flags:
            of = f"of {context.name}" if context.name else f"of {self.binary}"
            known = (*context.flags, *context.inverse_flags) if context.name else CORE
            fix = _nearest(flag, known)
            help = f"{self.binary} {context.name or ''} --help".replace("  ", " ")
            raise user_error(flag, f"is not an option {of}", fix or help)
        argument = context.flags[flag]
        if not argument.takes_value:
            if separator:
                raise user_error(flag, f"takes no value, but is given '{value}'")
            argument.value = True
            return
        if not separator:
            following = next(rest, None)
            if following is None or following in context.flags:
                raise user_error(flag, "needs a value")
            value = following
        if argument.raw_value is not None and argument.kind is not list:
            raise user_error(flag, "is given twice")
        try:
            argument.value = value
        except ValueError:  # of int or float, by which Argument reads it
            raise user_error(flag, f"'{value}' is not a number") from None

    def _complete(self, context: ParserContext) -> None:
        for parameter in _positional(context):
            if parameter.option.required and parameter.raw_value is None:
                raise user_error(parameter.metavar, "is missing", usage(self.binary, context))


class Program(invoke.Program):
    """Invoke's program, made one of this project's."""

    @property
    def binary(self) -> str:
        """How it was called: `invoke` for `python -m invoke`, too."""
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
                fix = _nearest(name, self.parser.contexts) or f"{self.binary} --list"
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
        """The commands by reader; a part of them, or as JSON, as Invoke does."""
        if self.list_root or self.list_format != "flat":
            super().list_tasks()
            return
        width = max(map(len, self.parser.contexts))
        for group, modules in GROUPS.items():
            print(f"\n{group}:")
            pairs = [(name, (one.__doc__ or "").splitlines()[0]) for name, one in _names(modules)]
            _columns(pairs, width)
        print(f"\n{self.binary} COMMAND --help says more.")

    def print_task_help(self, name: str) -> None:
        context = self.parser.contexts[name]
        first, *more = textwrap.dedent("    " + (self.collection[name].__doc__ or "")).splitlines()
        text = "\n".join([f"{first.strip()}.", *more]).strip()
        print(f"Usage: {usage(self.binary, context)}\n")
        print(text.replace("invoke ", f"{self.binary} "))
        positional = list(_positional(context))
        if positional:
            print("\nArguments:")
            _columns((one.metavar, one.help or "") for one in positional)
        print("\nOptions:")
        options = [one for one in context.flags.values() if one not in positional]
        rows = [(_option_text(one), one.help or "") for one in options]
        _columns([*rows, ("--help", "show this")])


def usage(binary: str, context: ParserContext) -> str:
    """`invoke cluster.check FILE [--OPTION]...`"""
    words = [binary, context.name or "", *(one.metavar for one in _positional(context))]
    if len(context.flags) > len(context.positional_args):
        words.append("[--OPTION]...")
    return " ".join(words)


def _positional(context: ParserContext) -> Iterator[Parameter]:
    return (one for one in context.positional_args if isinstance(one, Parameter))


def _next_positional(context: ParserContext) -> Parameter | None:
    """What the next word belongs to; a list takes every one."""
    empty = (one for one in _positional(context) if one.raw_value is None or one.kind is list)
    return next(empty, None)


def _option_text(option: invoke.Argument) -> str:
    name = option.names[0]
    if option.kind is bool:
        return f"--no-{name}" if option.default else f"--{name}"
    value = "N" if option.kind in (int, float) else name.rpartition("-")[2].upper()
    return f"{'-' if len(name) == 1 else '--'}{name} {value}"


def _nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion, or nothing where no name is near."""
    hint = did_you_mean(name, known)
    return hint if hint.startswith("did you mean") else ""


def _columns(rows: Iterable[tuple[str, str]], width: int = 0) -> None:
    """Print names with their texts beside them, or below a name that is too long for it."""
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
