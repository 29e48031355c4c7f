"""What `recipes` shows, in the image and in invoke."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from entrypoints import library
from entrypoints.findings import Refused
from entrypoints.inputs import data, recipes, releases
from tests import ROOT

PD = "qwen3-235b-a22b-w8a8/pd-3node-a3"


def names(**wanted: str) -> set[str]:
    return {one.recipe.name for one in library.find(**wanted)}


def test_all_of_them_in_order() -> None:
    assert [one.recipe.name for one in library.find()] == recipes.names()


def test_every_word_is_searched_in_names_descriptions_models_and_features() -> None:
    assert names(search="DeepSeek pd") == {
        "deepseek-r1-w8a8/pd-a3",
        "deepseek-v3.1-w8a8/pd-a3",
        "deepseek-v3.1-w8a8/pd-mtp1-a3",
        "deepseek-v3.2-w8a8/pd-a3",
    }
    assert names(search="yarn 133k") == set()
    assert names(search="yarn one node, 128k") == {"qwen3-235b-a22b-w8a8/single-128k"}
    assert names(search="moonshotai") == names(search="kimi")
    assert not names(search="kimi yarn")


def test_platform_and_release_are_those_that_a_recipe_names() -> None:
    assert names(platform="a2") == {n for n in recipes.names() if "a2" in recipes.load(n).platforms}
    assert names(release="v0.11.0") == {"qwen3-30b-a3b/four-npus", "qwen3-235b-a22b/ray"}
    assert not names(platform="cpu")


def test_what_is_asked_for_is_what_is_planned() -> None:
    (one,) = library.find([PD])
    assert (one.release, one.platform) == ("v0.13.0rc1", "a3")
    (one,) = library.find(["glm-4.7-w8a8/single-a3"])
    assert one.release == "v0.18.0"
    (one,) = library.find(["qwen3-32b-w4a4/one-npu"], platform="a3", release="v0.15.0rc1")
    assert (one.release, one.platform) == ("v0.15.0rc1", "a3")


def test_data() -> None:
    (one,) = library.as_data(library.find([PD]))
    prefill, decode = one["roles"]["prefill"], one["roles"]["decode"]
    assert (prefill["nodes"], prefill["npus"], prefill["sizes"]) == (1, 16, {"tp": 8, "dp": 2})
    assert (decode["nodes"], decode["npus"], decode["context"]) == (2, 32, 40960)
    # Bytes: 227.1e9 of experts over 32 devices and 7.9e9 of all else over 4; for each of 40960
    # tokens a key and a value of one head of 128 in 94 layers, two bytes each; 0.9 of 61.27 GiB.
    assert decode["memory"] == {"weights": 8.5, "cache": 1.8, "of": 55.1}
    assert one["releases"][:4] == ["v0.13.0rc1", "v0.13.0", "v0.15.0rc1", "v0.18.0"]
    assert all("docs/" in source for source in one["sources"].values())
    assert json.loads(library.as_json(library.find([PD]))) == [one]


def test_the_table_is_aligned() -> None:
    head, *rows = library.table(library.find()).splitlines()
    at = head.index("platforms")
    assert all(row[at - 1] == " " and row[at] != " " for row in rows)
    (row,) = (row for row in rows if row.startswith(PD))
    assert row.split() == [
        *(PD, "a3", "1+2", "16+32", "16", "40960", "prefill+decode"),
        *("-", "v0.13.0rc1", "to", sorted(recipes.load(PD).releases)[-1]),
    ]
    assert library.table([]) == ""


def test_a_context_that_nobody_states_is_not_made_up() -> None:
    (one,) = library.find(["qwen3-coder-30b-a3b-instruct/four-npus"])
    assert one.parts["single"].context is None
    assert " - " in library.table([one])
    assert "- tokens" in library.details([one])


def test_in_detail() -> None:
    text = library.details(library.find([PD, "qwen3-235b-a22b/ray"]))
    for part in (
        *("prefill: 1 node, 16 NPUs (tp=8 dp=2)", "--max-num-seqs 24", "fused_mc2 2"),
        *("kv_connector MooncakeConnectorV1", "Qwen3-235B-A22B.md:427,493,559"),
        *("-e ROLE=headless -e GROUP=decode -e NODE_RANK=1", "-e ROLE=ray-worker"),
    ):
        assert part in text


def test_wrong_names_are_all_told_with_those_that_were_meant() -> None:
    with pytest.raises(Refused) as caught:
        library.find(["single-128k", "x", PD], platform="a9", release="v0.13")
    assert caught.value.exit_code == 64
    assert [(one.where, one.fix.partition("?")[0]) for one in caught.value.findings] == [
        ("NAME", "did you mean qwen3-235b-a22b-w8a8/single-128k"),
        ("NAME", "`recipes` lists all"),
        ("--platform", "known: a2, a3, cpu"),
        ("--release", "did you mean v0.13.0"),
    ]


def test_releases_from_the_oldest_to_the_newest() -> None:
    given = sorted(data.names("releases"), reverse=True)
    assert releases.sort(given) == [
        *(
            "v0.11.0",
            "v0.13.0rc1",
            "v0.13.0",
            "v0.15.0rc1",
            "v0.18.0",
            "v0.23.0.post1",
            "cpu-0.32.0",
        )
    ]


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        (["--search", "kimi thinking"], 0, "kimi-k2-thinking/single-a3"),
        ([PD], 0, "stated in"),
        ([PD, "--format", "json"], 0, '"decode": {'),
        (["--release", "v0.11.0", "--platform", "a3"], 0, "qwen3-235b-a22b/ray"),
        (["--search", "nothing like it"], 0, "no recipe matches all of that"),
        (["pd-3node"], 64, f"did you mean {PD}?"),
        (["--format", "xml"], 64, "--format: 'xml' is not known"),
    ],
)
def test_the_command(args: list[Any], code: int, part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "recipes", *args],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert part in done.stdout + done.stderr
