"""A file of env/releases is written from its facts alone, and reads back as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests import ROOT
from tests.upstream.sample_sources import made
from upstream.dialect import derive, dialect_file
from upstream.facts import Decision, Derived, Fact

ENV = ROOT / "env" / "releases"
FILES = sorted(ENV.glob("*.yaml"))
RELEASES = [path for path in FILES if path.stem.startswith("v")]


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_a_file_that_is_there_is_as_it_would_be_written(path: Path) -> None:
    text = path.read_text()
    assert dialect_file.render(yaml.safe_load(text)) == text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_written_is_what_was_meant(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    text = dialect_file.render(document, "Facts about something. " * 8)
    assert yaml.safe_load(text) == document
    assert list(yaml.safe_load(text)) == list(document)
    assert text.startswith("# Facts about something.")


def test_a_draft_has_every_key_sources_and_what_was_taken() -> None:
    derived = derive(made(), {"mooncake": "v0.2.0"})
    document = dialect_file.document(derived)
    assert dialect_file.render(document) == dialect_file.render(dialect_file.document(derived))
    assert list(document) == list(yaml.safe_load(RELEASES[0].read_text()))
    assert document["features"]["flashcomm1"] == {
        "env": "VLLM_ASCEND_ENABLE_FLASHCOMM1",
        "values": [0, 1],
        "default": 0,
        "source": "vllm-ascend v1.0.0: vllm_ascend/envs.py:4",
    }
    assert document["connectors_gone"] == {}
    assert document["kv_port"] == 14579


def test_a_decision_stands_where_no_fact_does() -> None:
    derived = Derived(
        (Fact("flags_gone.old.gone", True, "s"), Fact("flags_gone.known.gone", True, "s")),
        decisions=(
            Decision("flags_gone.old.instead", "?"),
            Decision("flags_gone.known.instead", "?", "--new"),
            Decision("kv_port", "?", 7),
            Decision("adxl_ports", "?", {"base": 1, "step": 2}),
        ),
    )
    document = dialect_file.document(derived)
    assert document["flags_gone"] == {"known": {"instead": "--new", "source": "s"}}
    assert document["kv_port"] == 7
    assert document["adxl_ports"] == {"base": 1, "step": 2}


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)
SCALARS = st.one_of(TEXTS, st.booleans(), st.integers(-9, 99999), st.floats(0, 1, width=16))
KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True)
VALUES = st.recursive(
    st.one_of(SCALARS, st.lists(SCALARS, max_size=30)),
    lambda inner: st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_document_reads_back(document: dict[str, Any]) -> None:
    assert yaml.safe_load(dialect_file.render(document)) == (document or None)
