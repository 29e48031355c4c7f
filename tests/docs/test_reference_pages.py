"""The generated pages: drift, and that nothing is left out of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from common.errors import UserError
from docs.render import checks, markdown, reference, releases, roles
from docs.render import recipes as recipe_pages
from docs.render.markdown import MARK, Page
from entrypoints import documents
from entrypoints.inputs.recipes import names as recipe_names
from entrypoints.inputs.roles import ROLES
from entrypoints.inputs.settings import VARIABLES
from entrypoints.launch import proxy, ray, serve
from entrypoints.running import start, supervise
from images.matrix import load

MADE = (Page("a.md", f"{MARK}\n\n# A\n"), Page("b/c.md", f"{MARK}\n\n# C\n"))
NAMES = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=5)


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return {one.path: one.text for one in reference.pages(load())}


def test_the_same_data_give_the_same_bytes(made: dict[str, str]) -> None:
    assert {one.path: one.text for one in reference.pages(load())} == made
    assert all(text.startswith(MARK) for path, text in made.items() if path[0] != ".")


def test_nothing_is_left_out(made: dict[str, str]) -> None:
    matrix = load()
    assert all(name in made["compatibility.md"] for name in matrix.releases)
    assert all(f"`{name}`" in made["roles.md"] for name in ROLES)
    assert all(f"`{one.name}`" in made["roles.md"] for one in VARIABLES)
    for name in recipe_names():
        assert f"\n## {name}\n" in made[f"recipes/{name.partition('/')[0]}.md"]
    assert {f"releases/{name}.md" for name in [*matrix.releases][1:]} <= made.keys()


def test_a_page_is_written_and_then_the_same(tmp_path: Path) -> None:
    assert set(reference.write(list(MADE), tmp_path).values()) == {"missing"}
    assert set(reference.write(list(MADE), tmp_path).values()) == {"same"}
    reference.check(list(MADE), tmp_path, tmp_path)


def test_drift_is_named_page_by_page(tmp_path: Path) -> None:
    reference.write(list(MADE), tmp_path)
    (tmp_path / "a.md").write_text(f"{MARK}\n\n# By hand\n")
    (tmp_path / "b/c.md").unlink()
    (tmp_path / "old.md").write_text(f"{MARK}\n\n# Old\n")
    (tmp_path / "own.md").write_text("# Written by hand\n")
    with pytest.raises(UserError) as caught:
        reference.check(list(MADE), tmp_path, tmp_path)
    assert caught.value.exit_code == 65
    assert {one.where: one.message for one in caught.value.findings} == {
        "a.md": "differs from the data",
        "b/c.md": "is missing",
        "old.md": "is no longer generated",
    }
    reference.write(list(MADE), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.md")) == ["a.md", "c.md", "own.md"]


# ---- checks --------------------------------------------------------------------------------------


def test_every_check_has_messages_and_a_heading() -> None:
    every = [*checks.inputs(), *checks.launch(), *checks.machine(), *checks.cluster()]
    codes = [one.code for one in every]
    assert sorted(codes) == sorted(set(codes))
    assert [one.code for one in every if not one.lines] == []
    assert all(one.severity for one in every)


def test_a_check_of_the_machine_has_the_source_of_its_facts() -> None:
    found = {one.code: one for one in checks.machine()}
    assert found["devices"].source == "vllm-ascend #2557, #9428"
    assert found["fabric-tls"].severity == "error"
    assert found["fabric-link"].severity == "error or warning"
    texts = [one.text for one in found["hccn-conf"].lines]
    assert "… is not here, so HCCL knows no device's address" in texts


# ---- roles ---------------------------------------------------------------------------------------


def test_which_roles_take_a_variable() -> None:
    found = {one.variable.name: one.by for one in roles.variables()}
    assert found["PREFILL_ENDPOINTS"] == "proxy"
    assert found["NODE_RANK"] == "headless"
    assert found["RAY_PORT"] == "ray-head, ray-worker"
    assert found["MODEL"] == "all but proxy, ray-worker"
    assert found["PREFLIGHT"] == "all"
    assert "" not in found.values()


def test_defaults_are_what_the_code_goes_by() -> None:
    told = {one.name: one.default for one in VARIABLES}
    assert told["PORT"] == f"the recipe's, else {serve.API_PORT}; of the proxy {proxy.PORT}"
    assert told["DP_RPC_PORT"] == f"the recipe's, else {serve.DP_RPC_PORT}"
    assert told["RAY_PORT"] == str(ray.HEAD_PORT)
    assert told["WAIT_TIMEOUT"] == str(start.WAIT_TIMEOUT)
    assert told["DRAIN_TIMEOUT"] == f"{supervise.DRAIN} under SUPERVISE"


# ---- releases ------------------------------------------------------------------------------------


@given(NAMES, NAMES)
def test_a_difference_is_complete(before: dict[str, str], after: dict[str, str]) -> None:
    found = releases.changes(before, after)
    rebuilt = {name: value for name, value in before.items()}
    for one in found.gone:
        del rebuilt[one.name]
    rebuilt |= {one.name: one.after for one in (*found.new, *found.other)}
    assert rebuilt == after
    assert bool(found) == (before != after)


# ---- Markdown ------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=20))
def test_a_code_span_holds_its_text(text: str) -> None:
    plain = " ".join(text.split())
    row = f"| {markdown.code(text)} |\n|---|\n"
    cell = MarkdownIt("gfm-like", {"linkify": False}).parse(row)[4]
    shown = "".join(one.content for one in cell.children or ())
    assert shown == plain


def test_a_feature_that_nobody_knows_is_an_error_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(documents.ENV_DIR, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "recipes" / "qwen3-235b-a22b-w8a8" / "throughput-a3.yaml"
    text = path.read_text().replace("flashcomm1:", "flashcom1:", 1)
    path.write_text(text)
    monkeypatch.setattr(documents, "ENV_DIR", str(tmp_path))
    with pytest.raises(UserError) as caught:
        recipe_pages.render(load())
    (found,) = caught.value.findings
    lines = text.splitlines()
    assert (found.file, lines[found.line - 1].strip()) == (str(path), "flashcom1: true")
    assert found.message.startswith("'flashcom1' is not a feature of v0.13.0rc1, v0.13.0")
    assert "flashcomm1" in found.fix
