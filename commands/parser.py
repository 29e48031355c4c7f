"""The command-line parser, which extends Invoke's. An argument may take several values, --help
works even if arguments are missing, and a typing error gets a suggestion and exit code 64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import invoke
from invoke import Collection, ParserContext, ParseResult

from commands.command import Parameter
from common.errors import did_you_mean, user_error

CORE = ("--help", "--list", "--version", "--print-completion-script")  # before a command


class Contexts(Mapping[str, ParserContext]):
    """The commands by name; reads the signature of a command only when it is looked up."""

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
    """Parses commands with their options and arguments."""

    def __init__(self, contexts: Contexts, initial: ParserContext, binary: str) -> None:
        super().__init__(initial=initial)
        self.contexts: Any = contexts
        self.binary = binary

    def parse_argv(self, argv: list[str]) -> ParseResult:
        """The initial context and one for each command, with their values.

        Stops at --help, even if arguments are missing. Raises UserError (64) for invalid words.
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
                self._check(context)
                context = self.contexts[token]
                result.append(context)
            elif context.name:
                raise user_error(
                    context.name, f"takes no argument '{token}'", usage(self.binary, context)
                )
            else:
                fix = nearest(token, self.contexts) or f"{self.binary} --list"
                raise user_error(token, "is not a command", fix)
        self._check(context)
        return result

    def _option(self, context: ParserContext, token: str, rest: Iterator[str]) -> None:
        flag, separator, value = token.partition("=")
        if flag in context.inverse_flags and not separator:
            context.flags[context.inverse_flags[flag]].value = False
            return
        if flag not in context.flags:
            known = (*context.flags, *context.inverse_flags) if context.name else CORE
            fix = nearest(flag, known)
            help = " ".join(filter(None, (self.binary, context.name, "--help")))
            raise user_error(
                flag, f"is not an option of {context.name or self.binary}", fix or help
            )
        argument = context.flags[flag]
        if not argument.takes_value:
            if separator:
                raise user_error(flag, f"takes no value, but got '{value}'")
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

    def _check(self, context: ParserContext) -> None:
        for parameter in arguments(context):
            if parameter.option.required and parameter.raw_value is None:
                raise user_error(parameter.metavar, "is missing", usage(self.binary, context))


def usage(binary: str, context: ParserContext) -> str:
    """`invoke cluster.check FILE [--OPTION]...`"""
    words = [binary, context.name or "", *(one.metavar for one in arguments(context))]
    if len(context.flags) > len(context.positional_args):
        words.append("[--OPTION]...")
    return " ".join(words)


def arguments(context: ParserContext) -> Iterator[Parameter]:
    """The positional arguments, in order."""
    return (one for one in context.positional_args if isinstance(one, Parameter))


def _next_positional(context: ParserContext) -> Parameter | None:
    """The argument that takes the next word; a list takes all further words."""
    empty = (one for one in arguments(context) if one.raw_value is None or one.kind is list)
    return next(empty, None)


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion; empty if no name is similar."""
    hint = did_you_mean(name, known)
    return hint if hint.startswith("did you mean") else ""
