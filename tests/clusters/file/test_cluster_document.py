"""YAML with its lines."""

from __future__ import annotations

import pytest

from clusters.file.document import Document, dotted, parse
from clusters.model import Path, nearest_line

TEXT = """\
# a comment
name: x
nodes:
  a: 10.0.0.1
  b: {address: 10.0.0.2,
      nic: eth0}
list:
  - one
  -
    deep: [1, 2,
           3]
"""


def read(text: str) -> Document:
    return parse("f.yaml", text, lambda path: path[:1] == ("env",))


def test_every_key_and_item_has_its_line() -> None:
    found = read(TEXT)
    assert found.findings == ()
    assert found.lines == {
        (): 1,
        ("name",): 2,
        ("nodes",): 3,
        ("nodes", "a"): 4,
        ("nodes", "b"): 5,
        ("nodes", "b", "address"): 5,
        ("nodes", "b", "nic"): 6,
        ("list",): 7,
        ("list", 0): 8,
        ("list", 1): 10,
        ("list", 1, "deep"): 10,
        ("list", 1, "deep", 0): 10,
        ("list", 1, "deep", 1): 10,
        ("list", 1, "deep", 2): 11,
    }


def test_what_is_not_there_has_the_line_of_what_is_around_it() -> None:
    assert nearest_line(read(TEXT).lines, ("nodes", "b", "platform", "x")) == 5


def test_scalars_are_those_of_yaml_1_2() -> None:
    found = read("a: [on, no, true, 010, 12:30, 2024-01-01, 1, 1.5, ~, 0o7, .nan]\nenv: [0.90, ~]")
    assert found.value == {
        "a": ["on", "no", True, "010", "12:30", "2024-01-01", 1, 1.5, None, "0o7", ".nan"],
        "env": ["0.90", None],
    }


def test_merges_and_aliases() -> None:
    found = read(
        "a: &a {x: 1, y: 1}\nb: &b {x: 2}\nc:\n  y: 3\n  <<: [*a, *b]\nd: *b\ne: {<<: *b, z: 4}"
    )
    assert found.findings == ()
    assert found.value["c"] == {"x": 1, "y": 3}
    assert found.value["d"] == {"x": 2}
    assert found.value["e"] == {"x": 2, "z": 4}
    assert found.lines["c", "y"] == 4
    assert found.lines["c", "x"] == 1


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("", 1, "bad-yaml"),
        ("# nothing\n", 1, "bad-yaml"),
        ("a: 1\nb: [\n", 3, "bad-yaml"),
        ("a: 1\n  b: 2\n", 2, "bad-yaml"),
        ("a: 1\nb: \x07\n", 2, "bad-yaml"),
        ("a: 1\n---\nb: 1\n", 2, "bad-yaml"),
        ("a: 1\nb: *c\n", 2, "bad-yaml"),
        ("a: 1\nb: &b {c: *b}\n", 2, "bad-yaml"),
        ("a: 1\nb: &b\n  <<: *b\n", 2, "bad-yaml"),
        ("[" * 5000, 1, "bad-yaml"),
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate-key"),
        ("a: 1\n2: b\n", 2, "bad-key"),
        ("a: 1\n? [x]\n: b\n", 2, "bad-key"),
        ("a: 1\ntrue: b\n", 2, "bad-key"),
        ("a: 1\nb: !!int x\n", 2, "bad-value"),
        ("a: 1\nb: !!float .inf\n", 2, "bad-value"),
        ("a: 1\nb: !!python/name:os.system x\n", 2, "bad-value"),
        ("a: 1\nb: !!binary eA==\n", 2, "bad-value"),
        ("a: 1\n<<: [1]\n", 2, "bad-merge"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, line: int, code: str) -> None:
    found = read(text)
    assert [(one.line, one.code) for one in found.findings] == [(line, code)]


@pytest.mark.parametrize("how", ["[*a{0},*a{0},*a{0},*a{0},*a{0},*a{0}]", "{{<<: [{0}]}}"])
def test_aliases_of_aliases_do_not_fill_the_memory(how: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    for i in range(12):
        inner = how.format(i) if "<<" not in how else how.format(", ".join([f"*a{i}"] * 6))
        lines.append(f"a{i + 1}: &a{i + 1} {inner}")
    found = read("\n".join(lines))
    assert [one.code for one in found.findings] == ["bad-yaml"]
    assert "more than" in found.findings[0].message


def test_a_key_given_twice_keeps_its_first_value() -> None:
    found = read("a: 1\nb: {x: 1, x: 2}\na: 3\n")
    assert found.value == {"a": 1, "b": {"x": 1}}
    assert [str(one) for one in found.findings] == [
        "f.yaml:2: error: b.x: is given twice, first at line 2; keep one of them [duplicate-key]",
        "f.yaml:3: error: a: is given twice, first at line 1; keep one of them [duplicate-key]",
    ]


@pytest.mark.parametrize(
    ("path", "text"), [((), "the file"), (("a", "b", 0, 1, "c"), "a.b[0][1].c")]
)
def test_paths_are_spelled(path: Path, text: str) -> None:
    assert dotted(path) == text
