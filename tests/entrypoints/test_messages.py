"""The messages of env/messages, and the code that names them."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrypoints.findings import Message
from entrypoints.messages import KINDS, finding, messages
from tests import ROOT

IDS = {id: one for kind in KINDS for id, one in messages(kind).items()}
SOURCES = sorted((ROOT / "entrypoints").rglob("*.py"))
REPLACEMENTS = {"fix", "source"}  # what a finding may give in place of the message's own


def values(message: Message) -> set[str]:
    """The values that a message needs."""
    texts = (message.text, message.fix, message.where, message.source)
    fields = (field for text in texts for _, field, *_ in string.Formatter().parse(text))
    return {re.split(r"[.\[]", field)[0] for field in fields if field}


def named(tree: ast.AST) -> Iterator[re.Pattern[str]]:
    """The texts in a module, as patterns: an f-string may stand for several ids."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else ".*" for p in node.values]
            yield re.compile("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.compile(re.escape(node.value))


def test_a_code_has_one_kind() -> None:
    codes = [code for kind in KINDS for code in {one.code for one in messages(kind).values()}]
    assert len(codes) == len(set(codes))


def test_every_message_is_used() -> None:
    patterns = [one for path in SOURCES for one in named(ast.parse(path.read_text()))]
    exact = {one.pattern for one in patterns}
    made = [one for one in patterns if ".*" in one.pattern and one.pattern.strip(".*")]
    for id in IDS:
        assert re.escape(id) in exact or any(one.fullmatch(id) for one in made), id


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_findings_name_a_message_and_give_its_values(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id not in ("finding", "refused") or not isinstance(node.args[0], ast.Constant):
            continue
        message = IDS[str(node.args[0].value)]
        given = {one.arg for one in node.keywords}
        if None not in given:  # no `**values`
            where_given = {"where"} if len(node.args) > 1 else set()
            needed = values(message._replace(where="") if where_given else message)
            assert needed <= given, message
            assert given <= needed | REPLACEMENTS, message


def test_a_finding_of_a_message() -> None:
    found = finding("kv-tp-shape.smaller", prefill=2, decode=4, source="here")
    assert found.code == "kv-tp-shape"
    assert found.message == "prefill's tp 2 is smaller than decode's tp 4"
    assert found.fix == "make prefill's tp a multiple of decode's"
    assert found.source == "here"
    with pytest.raises(LookupError):
        finding("kv-tp-shape.other")
