"""The same question to many engines at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(
    ask: Callable[[T], R], those: Sequence[T], patience: float | None = None
) -> list[R | None]:
    """The answers in the order of `those`; None of one that has none after `patience` seconds.

    Not a pool: an interrupt, or the end of the program, does not wait for who never answers.
    """
    answers: list[R | None] = [None] * len(those)
    errors: list[BaseException] = []

    def run(at: int) -> None:
        try:
            answers[at] = ask(those[at])
        except BaseException as error:  # raised below, where the caller is
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(those))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    if errors:
        raise errors[0]
    return answers
