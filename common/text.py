"""Text that commands print: tables and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.errors import one_line


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Align rows in columns; those in `right` are right-aligned. Escape what is not printable."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = set(right)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in aligned else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def megabytes(size: int | None) -> str:
    """Bytes as MB of 10^6, with one decimal; `-` when unknown."""
    return "-" if size is None else f"{size / 1e6:,.1f} MB"


def short_size(size: int | None) -> str:
    """MB; kB or bytes where that would be 0.0 MB."""
    if size is None or size >= 100_000:
        return megabytes(size)
    return f"{size / 1e3:,.1f} kB" if size >= 100 else f"{size} B"
