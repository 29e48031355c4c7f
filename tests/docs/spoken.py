"""Functions in the shapes in which checks say things, for tests of docs/render/words.py."""

from __future__ import annotations

from typing import Any

FLAG = "--max-num-seqs"
NAMES = {"api": "PORT"}


class Found:
    def __init__(self, *words: str) -> None: ...


def plain(value: int) -> Any:
    yield Found(f"{FLAG} {value} is too much", "give less")


def closure(name: str) -> Any:
    def rule(port: int) -> Any:
        yield Found(f"{NAMES[name]} {port} is taken, as is {port + 1}", f"move {NAMES[name]}")

    return rule


def branches(there: bool, name: str) -> Any:
    if name == "":
        fix = "name it"
        yield Found("has no name", fix)
        return
    fix = "the fix before"
    if there:
        message = f"{name} is there"
        message += ", and should not be"
        fix = "take it away"
    else:
        message = f"{name} is not there"
        fix = "bring it"
    yield Found(message, fix)


def words(several: bool) -> Any:
    yield Found(f"rank{'s' if several else ''} of {'one' if several else 'two'} nodes", "look")


def pair(value: int) -> Any:
    message, fix = f"{value} is wrong", "right it"
    return Found(message, fix)


def told() -> tuple[str, str, str]:
    return "a-code", "is wrong", "right it"


def again(there: bool) -> Any:
    fix = "look" if there else fix_of()
    fix = f"first {fix}" if there else fix
    yield Found("is wrong", fix)


def fix_of() -> str:
    return "nowhere"
