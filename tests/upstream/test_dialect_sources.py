"""The files of env/releases, derived again from the real sources."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import yaml

from tests import ROOT
from upstream.audit import Audit
from upstream.audit.audit_result import flat
from upstream.dialect import derive, dialect_file
from upstream.sources import Sources

pytestmark = pytest.mark.index

ENV = ROOT / "env" / "releases"
RELEASES = Audit.checkout(None, print).names()[0]
# What a person says of a name: no source has it.
WORDS = (".instead", ".fix", ".since", ".missing")


def document(release: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ENV / f"{release}.yaml").read_text()))


@pytest.mark.parametrize("release", RELEASES)
def test_a_file_is_what_its_sources_say(release: str) -> None:
    text = (ENV / f"{release}.yaml").read_text()
    derived = derive(Sources.of(release), document(release))
    assert dialect_file.render(dialect_file.document(derived)) == text
    assert derived.decisions == ()


@pytest.mark.parametrize(("before", "release"), list(pairwise(RELEASES)), ids=lambda name: name)
def test_from_the_release_before_only_words_are_left_to_a_person(before: str, release: str) -> None:
    derived = derive(Sources.of(release), document(before))
    facts = {one.key: one.value for one in derived.facts}
    stated = {
        key: value
        for key, value in flat(document(release)).items()
        if not key.endswith((".source", *WORDS))
    }
    assert {key: facts.get(key, value) for key, value in stated.items()} == stated
    assert [key for key in stated if key not in facts and stated[key] != {}] == []
    gone = {one.key.split(".")[1] for one in derived.facts if one.key.startswith("flags_gone.")}
    assert gone == set(document(release)["flags_gone"])
    for asked in derived.decisions:
        assert asked.key == "adxl_ports" or asked.key.startswith(
            ("connectors_gone.", "flags_gone.", "variables_gone.", "features.")
        )
