"""Every command block of README and docs has a kind, is parsed, and is run where it can be."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from commands.parser import Contexts, Parser
from commands.program import namespace, program
from entrypoints.plan import plan
from tests import ROOT
from tests.docs import blocks
from tests.docs.blocks import KNOWN, SHIMS, Block

ALL = blocks.all_blocks()
SCRIPTS = ROOT / "tests/clusters/importing/scripts"
# The reference's scripts by the names in docs/importing.md.
NAMED = {"p": "pd-prefill-1", "d0": "pd-decode-1", "d1": "pd-decode-2", "proxy": "pd-proxy"}


def of(*kinds: str) -> list[object]:
    return [pytest.param(one, id=one.name) for one in ALL if one.kind in kinds]


def test_every_block_says_its_language_and_its_kind() -> None:
    kinds = (*KNOWN["kinds"], "elsewhere", "never")
    wrong = [one.name for one in ALL if not one.language or one.kind not in kinds]
    assert wrong == [], "write ```bash, and before it <!-- run: KIND -->, of blocks.yaml"


def test_the_chinese_readme_has_the_same_commands() -> None:
    english, chinese = (
        [re.sub(r" *#.*", "", one.text) for one in blocks.blocks(ROOT / name)]
        for name in ("README.md", "README.zh.md")
    )
    assert chinese == english


@pytest.mark.parametrize("kind", ["never", "elsewhere"])
def test_what_is_not_run_here_is_told(kind: str) -> None:
    there = Counter(one.page for one in ALL if one.kind == kind)
    assert there == Counter(one["page"] for one in KNOWN[kind])
    for entry in KNOWN[kind]:
        texts = [one.text for one in ALL if one.kind == kind and one.page == entry["page"]]
        assert any(entry["begins"] in text for text in texts), entry
        if kind == "elsewhere":
            assert entry["words"] in (ROOT / entry["test"]).read_text(), entry
        else:
            assert entry["why"]


def test_few_blocks_are_never_run() -> None:
    assert len(KNOWN["never"]) <= 2


@pytest.mark.parametrize("kind", KNOWN["kinds"])
def test_every_substitution_is_used_and_says_why(kind: str) -> None:
    texts = [one.text for one in ALL if one.kind == kind]
    assert texts
    for rule in KNOWN["kinds"][kind].get("substitutions", []):
        assert rule["why"]
        assert any(re.search(rule["replace"], text, re.MULTILINE) for text in texts), rule


@pytest.mark.parametrize("block", [pytest.param(one, id=one.name) for one in ALL])
def test_every_option_of_invoke_exists(block: Block) -> None:
    contexts = Contexts(namespace)
    for words in blocks.commands(block.text):
        if words and not words[0].startswith("-"):
            Parser(contexts, program.initial_context, "invoke").parse_argv(list(words))


@pytest.mark.parametrize("block", of("here"))
def test_a_block_that_runs_here(block: Block, tmp_path: Path) -> None:
    directory = blocks.scratch(tmp_path / "project")
    (directory / "scripts").mkdir()
    for name, script in NAMED.items():
        shutil.copy(SCRIPTS / f"{script}.sh", directory / "scripts" / f"{name}.sh")
    blocks.run(block, directory, {})


@pytest.mark.parametrize("block", of("plan", "rendered"))
def test_a_block_for_hosts_with_npus(block: Block) -> None:
    blocks.run(block, ROOT, {"PATH": f"{SHIMS}:{blocks.PATH}"})


def test_the_recipe_in_the_documents_is_one_and_plans() -> None:
    text = (ROOT / "docs/run.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    given = {"RECIPE": recipe, "LOCAL_IP": "10.0.0.1", "NIC": "eth0"}
    for role in ("prefill", "decode"):
        assert plan({**given, "ROLE": role}).argv[:2] == ("vllm", "serve")
