"""Edits of a YAML text keep everything else as it is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from clusters.model import Path
from clusters.upgrade import edit

TEXT = """\
# about the file
release: v1  # old
env:
  # about A
  A: 1
  B: two # about B
flow: {a: 1, b: {c: [x, y]}, d: 3}
one: {only: 1}
roles:
  single:
    args:
      long: >
        several
        words
      last: 1
  empty:
"""


@pytest.mark.parametrize(
    ("path", "value", "before", "after"),
    [
        (("release",), "v2", "release: v1  # old", "release: v2  # old"),
        (("env", "B"), 3, "B: two # about B", "B: 3 # about B"),
        (("flow", "b", "c"), {"x": True}, "c: [x, y]", "c: {x: true}"),
        (("flow", "e"), "a:b", "d: 3}", "d: 3, e: a:b}"),
        (("env", "C"), "no", "  B: two # about B\n", '  B: two # about B\n  C: "no"\n'),
        (("new", "inner"), [1, "x"], "  empty:\n", "  empty:\nnew: {inner: [1, x]}\n"),
        (
            ("roles", "single", "env", "X"),
            None,
            "      last: 1\n",
            "      last: 1\n    env: {X: null}\n",
        ),
    ],
)
def test_a_value_is_set(path: Path, value: Any, before: str, after: str) -> None:
    made = edit.set_value(TEXT, path, value)
    assert made == TEXT.replace(before, after)
    document: Any = yaml.safe_load(made)
    for part in path:
        document = document[part]
    assert document == value


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (("env", "A"), "  A: 1\n", ""),
        (("env", "B"), "  B: two # about B\n", ""),
        (("flow", "a"), "{a: 1, b", "{b"),
        (("flow", "d"), ", d: 3", ""),
        (("flow", "b", "c"), "b: {c: [x, y]}, ", ""),
        (("one", "only"), "one: {only: 1}\n", ""),
        (
            ("roles", "single", "args", "long"),
            "      long: >\n        several\n        words\n",
            "",
        ),
        (("roles", "single", "args"), TEXT[TEXT.index("  single:") : TEXT.index("  empty:")], ""),
        (("absent", "x"), "", ""),
    ],
)
def test_a_key_is_removed(path: Path, before: str, after: str) -> None:
    made = edit.remove(TEXT, path)
    assert made == TEXT.replace(before, after)
    assert not edit.has(made, path)
    yaml.safe_load(made)
