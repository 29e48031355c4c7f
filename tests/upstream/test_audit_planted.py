"""The audit of the real data against the real sources: clean, and with errors planted in a copy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from upstream import audit
from upstream.audit import audit_rules
from upstream.audit.audit_result import CONFIRMED, FAILING, UNSOURCED, AuditResult
from upstream.audit.audit_rules import Rule

AUDITED = ("env", "images/releases", "images/matrix.yaml", "clusters/checks", "validation", "docs")
pytestmark = pytest.mark.index

PLANTED = yaml.safe_load((Path(__file__).parent / "planted.yaml").read_text())


# A rule without a source, one whose file is not there, one whose line is about something else.
RULES = (
    Rule("without-source", "a rule of thumb", ""),
    Rule("no-file", "--headless with something", "vllm v0.13.0: vllm/entrypoints/cli/server.py"),
    Rule("no-name", "one size", "vllm v0.13.0: vllm/config/parallel.py, local_world_sizes"),
    Rule("other-line", "--max-num-seqs too low", "vllm v0.13.0: vllm/config/vllm.py:12"),
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[AuditResult]:
    """What the audit says of a copy with every error; the copy is read once."""
    root = tmp_path_factory.mktemp("planted")
    for name in AUDITED:
        at = root / name
        at.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, at, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        else:
            shutil.copy(ROOT / name, at)
    for error in PLANTED:
        path = root / error["file"]
        text = path.read_text()
        assert error["old"] in text, error
        path.write_text(text.replace(error["old"], error["new"], 1))
    checks = {**audit_rules.every(), "planted": RULES}
    planted = audit.Audit(root, audit.from_index, audit.members, checks, uploaded=audit.upload_day)
    return audit.run(planted, None, print)


@pytest.mark.parametrize("error", PLANTED, ids=lambda error: f"{error['file']}-{error['key']}")
def test_a_planted_error_is_found(planted: list[AuditResult], error: dict[str, Any]) -> None:
    found = [one for one in planted if one.file == error["file"] and one.key == error["key"]]
    failing = [one for one in found if one.verdict in FAILING]
    assert failing
    assert failing[0].line, "names no line of the file"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_planted_rule_is_found(planted: list[AuditResult], rule: Rule) -> None:
    (found,) = [one for one in planted if one.file == "planted" and one.key == rule.code]
    assert found.verdict in FAILING
    assert (found.verdict == UNSOURCED) == (rule.source == "")


def test_what_was_not_planted_is_not_found(planted: list[AuditResult]) -> None:
    """In a file with an error its neighbours may fail with it; in others nothing does."""
    files = {error["file"] for error in PLANTED} | {"planted", "images/matrix.yaml"}
    assert [one for one in planted if one.verdict in FAILING and one.file not in files] == []


def test_the_real_data_is_right() -> None:
    found = audit.run(audit.Audit.checkout(None, print), None, print)
    assert [one for one in found if one.verdict in FAILING] == []
    assert sum(one.verdict == CONFIRMED for one in found) > 4000
    without_place = [one for one in found if one.verdict == CONFIRMED and not one.source]
    assert without_place == []
