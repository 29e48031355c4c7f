"""What checks say, read from their source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from docs.render import words
from tests.docs import spoken


def said(function: Callable[..., Any], name: str = "Found") -> list[tuple[list[str], list[str]]]:
    return [
        (call.arguments(0, "message"), call.arguments(1, "fix"))
        for call in words.calls(function, {})
        if call.name == name
    ]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (spoken.plain, [(["--max-num-seqs … is too much"], ["give less"])]),
        (spoken.closure("api"), [(["PORT … is taken, as is …"], ["move PORT"])]),
        (
            spoken.branches,
            [
                (["has no name"], ["name it"]),
                (
                    ["… is there, and should not be", "… is not there"],
                    ["the fix before", "take it away", "bring it"],
                ),
            ],
        ),
        (spoken.words, [(["rank of … nodes"], ["look"])]),
        (spoken.pair, [(["… is wrong"], ["right it"])]),
        (spoken.again, [(["is wrong"], ["first …", "…"])]),
    ],
    ids=["constant", "closure", "branches", "one of several words", "tuple", "of itself"],
)
def test_messages_and_fixes(
    function: Callable[..., Any], expected: list[tuple[list[str], list[str]]]
) -> None:
    assert said(function) == expected


def test_a_returned_tuple_is_a_call() -> None:
    assert said(spoken.told, "return") == [(["a-code"], ["is wrong"])]


def test_what_a_parameter_is_may_be_known() -> None:
    (call,) = (one for one in words.calls(spoken.plain, {"value": 7}) if one.name == "Found")
    assert call.argument(0, "message") == "--max-num-seqs 7 is too much"
