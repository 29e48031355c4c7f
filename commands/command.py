"""`@command` turns a function into a command: its options, exit codes and output."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, overload

from invoke import Argument, Context, Exit, Task

from common.paths import CHECKOUT

if TYPE_CHECKING:
    from clusters.show.output import Line

EX_PIPE = 128 + signal.SIGPIPE

Values = Callable[[], Iterable[str]]
KINDS = {"str": str, "bool": bool, "int": int, "float": float, "list[str]": list}


@dataclasses.dataclass(frozen=True)
class Option:
    """The default of a command's parameter: describes the option; `help` says what it is for."""

    help: str
    values: tuple[str, ...] | Values = ()
    default: Any = None
    strict: bool = False
    positional: bool = False
    required: bool = False

    def known(self) -> list[str]:
        return list(self.values() if callable(self.values) else self.values)

    def check(self, name: str, value: object) -> None:
        """Raises UserError (64) when a strict option has another value."""
        from common.errors import user_error

        if self.strict and value not in self.known():
            raise user_error(name, f"'{value}' is not known", _or(self.known()))


def option(
    help: str,
    values: tuple[str, ...] | Values = (),
    default: str | int | float | bool | None = None,
) -> Any:
    """An option, by default empty or False. A shell completes `values`."""
    if default is not None and default is not True and "default" not in help:
        help = f"{help} (default: {default})"
    return Option(help, values, default)


def choice(default: str, *others: str) -> Any:
    """An option that accepts these values only."""
    known = (default, *others)
    return Option(_or([f"{default} (default)", *others]), known, default, strict=True)


def argument(help: str, values: tuple[str, ...] | Values = (), required: bool = True) -> Any:
    """A positional argument. A list takes all that follow."""
    return Option(help, values, positional=True, required=required)


def _or(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


class Parameter(Argument):
    """An option or an argument, in the parser's form. A list collects every given value."""

    def __init__(self, name: str, kind: type, option: Option) -> None:
        self.option = option
        super().__init__(
            names=(name.strip("_").replace("_", "-"),),
            attr_name=name,
            kind=kind,
            default=None if option.required else kind(option.default or kind()),
            help=option.help,
            positional=option.positional,
        )

    @property
    def metavar(self) -> str:
        """Its form in usage lines: FILE; SCRIPT... for a list; in brackets if optional."""
        words = self.names[0].upper()
        if self.kind is list:
            words = words.removesuffix("S") + "..."
        return words if self.option.required else f"[{words}]"


class Command(Task):  # type: ignore[type-arg]
    """A function with its options; `ending` turns its errors into messages and exit codes."""

    def __init__(
        self,
        body: Callable[..., None],
        name: str | None = None,
        only: Iterable[str] = (),
        help: Mapping[str, str] | None = None,
        checkout: bool = False,
    ) -> None:
        super().__init__(body, name=name, positional=(), auto_shortflags=False)
        self.only = frozenset(only)
        self.own_help = dict(help or {})
        self.checkout = checkout

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The function's parameters, a dataclass replaced by its fields; arguments first."""
        made = []
        for name, (kind, default) in self._signature.items():
            if dataclasses.is_dataclass(kind):
                for field in dataclasses.fields(kind):
                    if not self.only or field.name in self.only:
                        made.append(self._parameter(field.name, str(field.type), field.default))
            else:
                made.append(self._parameter(name, kind, default))
        return sorted(made, key=lambda one: not one.positional)

    @cached_property
    def _signature(self) -> dict[str, tuple[Any, Any]]:
        """Parameter → its type (a name, or a dataclass) and its default."""
        body = self.body
        return {
            one.name: (body.__globals__.get(one.annotation, one.annotation), one.default)
            for one in inspect.signature(body).parameters.values()
        }

    def _parameter(self, name: str, kind: str, option: Any) -> Parameter:
        if name in self.own_help:
            option = dataclasses.replace(option, help=self.own_help[name])
        return Parameter(name, KINDS[kind], option)

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        return [copy.copy(one) for one in self.parameters]

    def __call__(self, *context: Context, **given: Any) -> None:
        with ending():
            if self.checkout and not CHECKOUT:
                from common.errors import user_error

                raise user_error(self.name, "works only in a checkout of the project", "clone it")
            values = {str(one.attr_name): one.default for one in self.parameters} | given
            for one in self.parameters:
                one.option.check(f"--{one.names[0]}", values[str(one.attr_name)])
            for name, (kind, _) in self._signature.items():
                if dataclasses.is_dataclass(kind):
                    fields = dataclasses.fields(kind)
                    own = {one.name: values.pop(one.name, _default(one)) for one in fields}
                    values[name] = kind(**own)  # type: ignore[operator]
            self.body(**values)


def _default(field: Any) -> Any:
    return Parameter(field.name, KINDS[field.type], field.default).default


@overload
def command(body: Callable[..., None]) -> Command: ...


@overload
def command(
    *,
    name: str | None = None,
    only: Iterable[str] = (),
    help: Mapping[str, str] = ...,
    checkout: bool = False,
) -> Callable[[Callable[..., None]], Command]: ...


def command(body: Callable[..., None] | None = None, **options: Any) -> Any:
    """Turn a function into a command; each parameter has an `option` or an `argument` as default.

    A parameter with a dataclass as type gives an option for each of its fields, or those in `only`.
    `help` replaces texts of shared options; `checkout`: the command needs the project's own files.
    The list of commands shows the first line of the docstring, --help all of it.
    """
    return Command(body) if body is not None else partial(Command, **options)


# ---- how a command ends --------------------------------------------------------------------------


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


@contextmanager
def ending() -> Iterator[None]:
    """Print one error per line and exit with their code; exit silently when a pipe is closed."""
    from common.errors import UserError

    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise Exit(code=EX_PIPE) from None
    except UserError as error:
        lines = "\n".join(str(one) if one.file else f"error: {one}" for one in error.errors)
        raise _exit(lines, error.exit_code) from None
    except Terminated:
        raise _exit("terminated", 143) from None
    except KeyboardInterrupt:
        raise _exit("interrupted", 130) from None
    except Exception as error:
        from entrypoints.findings import Refused

        if not isinstance(error, Refused):
            raise
        lines = "\n".join(f"error: {finding.line()}" for finding in error.findings)
        raise _exit(lines, error.exit_code) from None
    finally:
        _flush()
        signal.signal(signal.SIGTERM, before)


def _exit(message: str, code: int) -> Exit:
    """Print why a command ends; Invoke's own printing fails on a closed pipe."""
    with suppress(BrokenPipeError):
        say(message)
    return Exit(code=code)


def _terminate(*_: object) -> None:
    raise Terminated


def _flush() -> None:
    """Flush stdout and stderr; point a closed one at /dev/null, or Python reports it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# ---- what a command prints -----------------------------------------------------------------------


def say(text: str) -> None:
    """Print progress or a warning, to stderr. Escape what is not printable."""
    from common.errors import one_line

    print("\n".join(map(one_line, text.split("\n"))), file=sys.stderr, flush=True)


def output(
    format: str,
    data: Any,
    text: Callable[[], str | Iterable[Line]],
    jobs: Callable[[], Any] | None = None,
) -> None:
    """Print `data` as JSON, `text`, or `jobs` as the matrix of a GitHub workflow."""
    if format == "github" and jobs:
        print(json.dumps({"include": jobs()}))
    elif format == "json":
        print(json.dumps(data, indent=1))
    elif isinstance(shown := text(), str):
        print(shown)
    else:
        from clusters.show.output import print_lines

        print_lines(shown)
