"""Recipes laid over others, and RECIPE as the recipe itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from entrypoints.findings import Refused
from entrypoints.inputs import recipes
from entrypoints.plan import draft, plan

PD = "qwen3-235b-a22b-w8a8/pd-3node-a3"
NODE = {"ROLE": "prefill", "LOCAL_IP": "10.0.0.11", "NIC": "eth0"}


def values_of(block: recipes.Block, flag: str) -> tuple[str, ...]:
    found = block.args[flag]
    assert found
    return found.values


def test_only_what_is_written_changes() -> None:
    text = json.dumps({"extends": PD, "roles": {"decode": {"args": {"max-num-seqs": 96}}}})
    base, changed = recipes.load(PD), recipes.load(text)
    assert changed.groups["prefill"] == base.groups["prefill"]
    assert values_of(changed.groups["decode"], "--max-num-seqs") == ("96",)
    assert changed.model == base.model
    assert changed.platforms == base.platforms
    assert changed.title == f"{PD} with changes"


def test_releases_and_sources_are_those_of_the_other_until_they_are_given() -> None:
    base, changed = recipes.load(PD), recipes.load(json.dumps({"extends": PD}))
    assert (changed.releases, changed.sources) == (base.releases, base.sources)
    given = {
        "extends": PD,
        "releases": ["v0.18.0"],
        "source": {"args": "mine"},
        "args": {"seed": 1},
    }
    own = recipes.load(json.dumps(given))
    assert own.releases == ("v0.18.0",)
    assert own.sources == {**base.sources, "args": "mine"}


def test_a_recipe_with_a_name_goes_by_it() -> None:
    named = recipes.load("deepseek-v3.1-w8a8/pd-mtp1-a3")
    assert named.title == "deepseek-v3.1-w8a8/pd-mtp1-a3"
    assert named.extends == "deepseek-v3.1-w8a8/pd-a3"


def test_the_top_level_is_laid_over_every_role_of_the_other() -> None:
    changed = recipes.load(f"extends: {PD}\nargs: {{max-num-seqs: 7}}\n")
    for block in changed.groups.values():
        assert values_of(block, "--max-num-seqs") == ("7",)


def test_null_takes_away_what_the_other_has() -> None:
    taken = {
        "extends": PD,
        "features": {"fused_mc2": None},
        "env": {"OMP_NUM_THREADS": None},
        "kv_transfer": {"kv_connector_extra_config": {"use_ascend_direct": None}},
        "args": {"seed": None},
    }
    launch = plan({**NODE, "RECIPE": json.dumps(taken)})
    assert "VLLM_ASCEND_ENABLE_FUSED_MC2" not in launch.env
    assert "OMP_NUM_THREADS" not in launch.env
    assert "--seed" not in launch.argv
    assert "use_ascend_direct" not in " ".join(launch.argv)


def test_sizes_of_one_side_reach_the_other() -> None:
    text = json.dumps({"extends": PD, "roles": {"prefill": {"sizes": {"tp": 4, "dp": 4}}}})
    decode = plan({**NODE, "ROLE": "decode", "RECIPE": text})
    config = json.loads(decode.argv[decode.argv.index("--kv-transfer-config") + 1])
    assert config["kv_connector_extra_config"]["prefill"] == {"dp_size": 4, "tp_size": 4}


def test_a_whole_recipe_as_text_is_the_recipe() -> None:
    text = Path("env/recipes/qwen3-235b-a22b/multi-node.yaml").read_text()
    whole = recipes.load(text)
    named = recipes.load("qwen3-235b-a22b/multi-node")
    assert whole.groups == named.groups
    assert whole.title == "RECIPE"


def test_a_file_extends_another_by_name(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: {PD}\nport: 9000\n")
    assert recipes.load(str(path)).groups["decode"].port == 9000


def test_truth_in_json_is_written_as_in_yaml() -> None:
    text = '{"model": "m", "env": {"A": true, "B": 1}, "roles": {"single": {}}}'
    assert recipes.load(text).groups["single"].env == {"A": "true", "B": "1"}


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ('{"extends": "nothing"}', "RECIPE: extends", "'nothing' is not a recipe"),
        (f'{{"extends": "{PD}", "role": {{}}}}', "RECIPE: role", "unknown key"),
        ("a: [\n", "RECIPE", "at line"),
        ("{", "RECIPE", "expected"),
        (f"extends: {PD}\nroles: {{prefill: {{sizes: {{tp: x}}}}}}\n", "RECIPE: roles.", "whole"),
    ],
)
def test_what_is_wrong_in_a_text_is_refused(text: str, where: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        recipes.load(text)
    (finding,) = refused.value.findings
    assert finding.where.startswith(where)
    assert message in finding.line()
    assert refused.value.exit_code == 65


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(f"extends: {second}\n")
    second.write_text(f"extends: {first}\n")
    with pytest.raises(Refused, match="extends itself"):
        recipes.load(str(first))


def test_a_draft_shows_the_command_together_with_what_speaks_against_it() -> None:
    launch, findings = draft({**NODE, "RECIPE": PD, "TP_SIZE": "16"}, ["--no-such-flag", "1"])
    assert launch is not None
    assert "16" in launch.argv
    assert "--no-such-flag" in launch.argv
    codes = {finding.code for finding in findings}
    assert {"too-few-devices", "unknown-flag"} <= codes


def test_there_is_no_draft_without_a_role() -> None:
    launch, findings = draft({"RECIPE": PD})
    assert launch is None
    assert [finding.code for finding in findings] == ["missing-role"]


def test_the_recipe_below_may_be_written_there() -> None:
    text = '{"extends": {"model": "m", "roles": {"single": {"sizes": {"tp": 2}}}}, "port": 9000}'
    (block,) = recipes.load(text).groups.values()
    assert (block.sizes.tp, block.port) == (2, 9000)
    with pytest.raises(Refused) as refused:
        recipes.load('{"extends": {"model": "m", "rolls": {}}}')
    assert {finding.where for finding in refused.value.findings} >= {"RECIPE: extends: rolls"}


def test_what_is_extended_must_be_a_name_or_a_recipe() -> None:
    with pytest.raises(Refused, match="is not a name"):
        recipes.load('{"extends": 7}')


# ---- what a release states differently ----------------------------------------------------------

DIFFERS = """\
model: m
platforms: [a3]
releases: [v0.13.0]
source: of all
args: {seed: 1, max-num-seqs: 8}
roles:
  single: {features: {weight_nz: 1}}
by_release:
  v0.18.0:
    source: {args: of v0.18.0}
    args: {seed: null}
    roles:
      single: {args: {max-num-seqs: 9}}
      leader: {port: 9000}
"""


def test_a_release_has_its_own_values() -> None:
    recipe = recipes.load(DIFFERS)
    assert recipe.releases == ("v0.13.0", "v0.18.0")
    assert recipe.sources == {"": "of all", "by_release.v0.18.0.args": "of v0.18.0"}
    assert recipe.on("v0.13.0") is recipe.on("v0.15.0rc1") is recipe
    assert values_of(recipe.groups["single"], "--max-num-seqs") == ("8",)
    there = recipe.on("v0.18.0")
    assert (there.releases, there.sources) == (recipe.releases, recipe.sources)
    assert values_of(there.groups["single"], "--max-num-seqs") == ("9",)
    assert there.groups["single"].args["--seed"] is None
    assert there.groups["single"].features == {"weight_nz": 1}
    assert list(there.groups) == ["single", "leader"]
    assert values_of(there.groups["leader"], "--max-num-seqs") == ("8",)
    assert list(recipe.groups) == ["single"]


def test_a_plan_takes_the_values_of_its_release() -> None:
    for release, flag in (
        ("v0.13.0", "--seed 1 --max-num-seqs 8"),
        ("v0.18.0", "--max-num-seqs 9"),
    ):
        launch = plan({"ROLE": "single", "RECIPE": DIFFERS, "VLLM_ASCEND_RELEASE": release})
        assert " ".join(launch.argv).endswith(flag)


def test_changes_are_laid_over_every_release(tmp_path: Path) -> None:
    (tmp_path / "under.yaml").write_text(DIFFERS)
    under = {"extends": str(tmp_path / "under.yaml"), "args": {"seed": 2}}
    changed = recipes.load(json.dumps(under))
    assert changed.releases == ("v0.13.0", "v0.18.0")
    for release in changed.releases:
        assert values_of(changed.on(release).groups["single"], "--seed") == ("2",)
    own = {**under, "by_release": {"v0.18.0": {"args": {"seed": 3}}}}
    changed = recipes.load(json.dumps(own))
    assert changed.releases == ("v0.18.0",)
    assert values_of(changed.on("v0.13.0").groups["single"], "--seed") == ("2",)
    assert values_of(changed.on("v0.18.0").groups["single"], "--seed") == ("3",)
    assert changed.on("v0.18.0").title == changed.title == f"{under['extends']} with changes"
    assert values_of(changed.on("v0.18.0").groups["single"], "--max-num-seqs") == ("9",)


@pytest.mark.parametrize(
    ("differs", "where"),
    [
        ({"v9.9.9": {}}, "by_release.v9.9.9"),
        ({"v0.18.0": {"sizes": {"tp": 2}}}, "by_release.v0.18.0.sizes"),
        ({"v0.18.0": {"platforms": ["a2"]}}, "by_release.v0.18.0.platforms"),
        ({"v0.18.0": {"roles": {"single": {"nodes": 2}}}}, "by_release.v0.18.0.roles.single.nodes"),
        ({"v0.18.0": {"roles": {"cook": {}}}}, "by_release.v0.18.0.roles.cook"),
        ({"v0.18.0": {"args": {"seed": {1: 2}}}}, "by_release.v0.18.0.args.seed.1"),
    ],
)
def test_only_settings_differ_by_release(differs: dict[str, Any], where: str) -> None:
    with pytest.raises(Refused) as caught:
        recipes.load(f"{DIFFERS.partition('by_release')[0]}by_release: {differs}")
    assert [one.where for one in caught.value.findings] == [f"RECIPE: {where}"]
