"""The terminal: progress messages, and an area that is redrawn below lines that stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Say = Callable[[str], None]  # prints one line of progress


class Live:
    """An area of stderr that is redrawn `redraws` times a second."""

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
        """Print a line that stays, cut off at the terminal's width."""
        self._live.console.print(
            line, markup=False, highlight=False, overflow="ellipsis", no_wrap=True
        )

    def show(self, drawn: Any) -> None:
        """Redraw the area with anything that rich can render."""
        self._live.update(drawn)
