"""Exiting at once on SIGTERM and SIGINT, also as PID 1, which ignores unhandled signals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def exit_on_signal(say: Callable[[str], None], doing: str) -> Iterator[None]:
    """In the block, SIGTERM and SIGINT raise SystemExit with 128 + signal and print a line."""
    received: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield
    except SystemExit:
        if received:
            say(f"{doing}: ended by {signal.Signals(received[0]).name}")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
