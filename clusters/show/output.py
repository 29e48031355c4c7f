"""Lines with a style, which a terminal shows in colour and wrapped."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEAD = "bold"
LABEL = "dim"
PLAIN = ""
OLD = "red"
NEW = "green"

_INDENT = 2
_PARTS = re.compile(r"[^\s,]*[\s,]+|[^\s,]+")


@dataclass(frozen=True)
class Line:
    """A line, indented by `level` steps. `style`: a style of rich."""

    text: str
    level: int = 0
    style: str = PLAIN

    def __str__(self) -> str:
        return f"{' ' * _INDENT * self.level}{self.text}".rstrip()


def count(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def join(lines: Iterable[Line]) -> str:
    """The lines as plain text, not wrapped."""
    return "\n".join(map(str, lines))


def print_lines(lines: Iterable[Line]) -> None:
    """Print the lines; on a terminal wrapped and in colour."""
    if not sys.stdout.isatty():
        print(join(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    whole = Text("\n").join(
        Text(row, line.style) for line in lines for row in wrap(line, console.width)
    )
    console.print(whole, soft_wrap=True)


def wrap(line: Line, width: int) -> Iterator[str]:
    """Wrap a line into rows of at most `width`, after blanks and commas if possible.

    Continuation rows are indented two more steps.
    """
    row, hanging = str(line), " " * _INDENT * (line.level + 2)
    if len(row) <= width or len(hanging) >= width:
        yield row
        return
    row = " " * _INDENT * line.level
    for part in _PARTS.findall(line.text):
        if row.strip() and len(row) + len(part.rstrip()) > width:
            yield row.rstrip()
            row = hanging
        row += part
        while len(row.rstrip()) > width:
            yield row[:width]
            row = hanging + row[width:]
    yield row.rstrip()
