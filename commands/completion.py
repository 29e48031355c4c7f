"""Completions for a shell: commands, options and values."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping

from invoke import Argument, ParserContext

from commands.command import Parameter


def candidates(
    line: str, contexts: Mapping[str, ParserContext], options: Iterable[str]
) -> Iterator[str]:
    """Candidates for the last word of a command line or the next one; empty for a file.

    `line` starts with the name of the program. Whether a space follows its last word is unknown.
    """
    try:
        typed = shlex.split(line)[1:]
    except ValueError:  # an open quote
        typed = line.split()[1:]
    words = _joined(typed)
    at = next((index for index, word in enumerate(words) if word in contexts), None)
    last = words[-1] if words else ""
    if at is None:
        yield from options if last.startswith("-") else contexts
        return
    context = contexts[words[at]]
    flags = [*context.flags, *context.inverse_flags, "--help"]
    flag, separator, value = last.partition("=")
    if separator and _takes_value(context, flag):
        for one in _values(context.flags[flag], value):
            yield from (one, f"{flag}={one}")
    elif _takes_value(context, last):
        yield from _values(context.flags[last], "")
    elif len(words) > at + 2 and _takes_value(context, words[-2]):
        yield from _values(context.flags[words[-2]], last)
    elif last.startswith("-") or not context.positional_args:
        yield from flags
    else:
        for argument in context.positional_args:
            yield from _values(argument, last)


def _joined(words: list[str]) -> list[str]:
    """Rejoin NAME=VALUE, which bash splits into three words."""
    result: list[str] = []
    for word in words:
        if result and (word == "=" or result[-1].endswith("=")):
            result[-1] += word
        else:
            result.append(word)
    return result


def _takes_value(context: ParserContext, flag: str) -> bool:
    return flag in context.flags and context.flags[flag].takes_value


def _values(argument: Argument, typed: str) -> Iterator[str]:
    """The values of an option, each after the values already typed, and without its NAME=."""
    known = argument.option.known() if isinstance(argument, Parameter) else []
    before, comma, _ = typed.rpartition(",")
    for one in known:
        yield before + comma + one
        if "=" in one:
            yield one.partition("=")[2]
