"""Ending at once when asked to, also as PID 1, which ignores what it has no handler for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASKS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def at_once(say: Callable[[str], None], doing: str) -> Iterator[None]:
    """Within it SIGTERM and SIGINT raise SystemExit with 128 + signal, and a line says so."""
    asked: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        asked.append(number)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in ASKS}
    try:
        yield
    except SystemExit:
        if asked:
            say(f"{doing}: ended by {signal.Signals(asked[0]).name}")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
