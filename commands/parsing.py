"""What Invoke's parser lacks.

A positional argument that may be given more than once: Invoke takes what follows it for the next
task. For a task of class `SeveralTask` it belongs to the argument as long as it is no flag and no
flag's value. And words instead of a traceback for a value that is no number.
"""

from __future__ import annotations

from typing import Any

from invoke import Task
from invoke.exceptions import ParseError
from invoke.parser.argument import Argument
from invoke.parser.parser import ParseMachine


class Several(Argument):
    """An argument whose value is the list of all that was given."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._value: list[Any] = []  # and not None, for which Invoke takes any token, even a flag

    def set_value(self, value: Any, cast: bool = True) -> None:
        self.raw_value = value
        self._value = [*self._value, value]


class SeveralTask(Task):  # type: ignore[type-arg]
    """A task whose first positional argument is a list."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        first, *others = super().get_arguments(ignore_unknown_help)
        return [Several(names=first.names, help=first.help, positional=True), *others]


_handle = ParseMachine.handle


def _more(machine: ParseMachine, token: str) -> None:
    positional = machine.context.positional_args if machine.context else ()
    several = next((one for one in positional if isinstance(one, Several)), None)
    if several is not None and not token.startswith("-") and not machine.waiting_for_flag_value:
        several.value = token
        return
    try:
        _handle(machine, token)
    except ValueError:  # of int or float, by which Invoke reads a value
        flag = f"--{machine.flag.name}: " if machine.flag else ""
        message = f"error: {flag}{token!r} is no number; see --help"
        raise ParseError(message, machine.context) from None


ParseMachine.handle = _more  # type: ignore[method-assign, assignment]
