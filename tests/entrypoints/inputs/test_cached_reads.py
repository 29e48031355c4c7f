"""Files are read once while many plans are made, and every time otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrypoints.findings import Refused
from entrypoints.inputs import catalogue, data, recipes, stack

RECIPE = "model: m\nroles: {single: {}}\n"


def test_a_start_keeps_nothing(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    assert recipes.load(str(file)).model == "m"
    file.write_text(RECIPE.replace("m\n", "other\n", 1))
    assert recipes.load(str(file)).model == "other"


def test_many_plans_read_once_and_forget(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    with data.CachedReads():
        first = recipes.load(str(file))
        file.write_text(RECIPE.replace("m\n", "other\n", 1))
        with data.CachedReads():
            assert recipes.load(str(file)) is first
        assert recipes.load(str(file)) is first
    assert recipes.load(str(file)).model == "other"


def test_what_is_made_of_files_is_kept_by_name() -> None:
    with data.CachedReads():
        found = [stack.release(name, []) for name in ("v0.13.0rc1", "v0.11.0", "v0.13.0rc1", None)]
        assert found[0] is found[2] is found[3]
        assert found[0]
        assert found[1]
        assert found[0].name != found[1].name
        assert catalogue.load(found[0]) is catalogue.load(found[0])
        assert catalogue.load(found[1]).release == "v0.11.0"


def test_a_refusal_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("model: [")
    with data.CachedReads():
        with pytest.raises(Refused):
            recipes.load(str(file))
        file.write_text(RECIPE)
        assert recipes.load(str(file)).model == "m"
