"""A part of the terminal that is drawn again and again, with lines that stay above it."""

from __future__ import annotations

from typing import Any


class Live:
    """On stderr. `redraws`: how often a second."""

    def __init__(self, redraws: float = 4) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self._live = Live(console=console, refresh_per_second=redraws, transient=True)

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def print(self, line: str) -> None:
        """A line that stays, cut off at the terminal's width."""
        self._live.console.print(
            line, markup=False, highlight=False, overflow="ellipsis", no_wrap=True
        )

    def show(self, drawn: Any) -> None:
        """Put anything that rich can draw in place of what was there."""
        self._live.update(drawn)
