"""Runs one function for many arguments at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(
    function: Callable[[T], R], items: Sequence[T], timeout: float | None = None
) -> list[R | None]:
    """The results in the order of `items`; None for one without a result after `timeout` seconds.

    Not a pool: neither an interrupt nor the end of the program waits for a call that hangs.
    """
    results: list[R | None] = [None] * len(items)
    errors: list[BaseException] = []

    def run(at: int) -> None:
        try:
            results[at] = function(items[at])
        except BaseException as error:  # raised below, in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(items))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    if errors:
        raise errors[0]
    return results
