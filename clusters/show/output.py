"""Text for people: lines with a style, which a terminal shows in colour and wrapped."""

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
    """A line without its indentation, of `level` steps. `style`: in the words of rich."""

    text: str
    level: int = 0
    style: str = PLAIN

    def __str__(self) -> str:
        return f"{' ' * _INDENT * self.level}{self.text}".rstrip()


def join(lines: Iterable[Line]) -> str:
    """The lines as they are, however long."""
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
    """The line in rows of at most `width`, broken after blanks and commas where that is possible.

    A row that goes on is indented two steps further than the line.
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
