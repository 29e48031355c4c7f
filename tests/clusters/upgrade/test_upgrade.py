"""`cluster.upgrade`: what it changes, with which reason, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.show import check, upgraded
from clusters.upgrade.upgrade import Upgraded, upgrade
from common.errors import EX_DATAERR, EX_USAGE, UserError
from entrypoints.inputs import recipes

OLD, NEW = "v0.13.0rc1", "v0.23.0.post1"
FILE = """\
# Our cluster
name: ours
release: v0.13.0rc1   # in use
platform: a3
nic: eth0
image: registry.example.com/team/vllm-ascend:v0.13.0rc1-a3
recipe: own.yaml
env:
  VLLM_ASCEND_ENABLE_FLASHCOMM1: 1  # faster
  VLLM_USE_V1: 1
  HCCL_BUFFSIZE: 512
args:
  additional-config: {dynamic_eplb: true}
  disable-log-requests: true
  enable-expert-parallel: true
nodes: {n1: 10.0.0.1}
instances:
  serve: {nodes: [n1]}
"""
RECIPE = """\
# Tuned in May.
model: Qwen/Qwen3-30B-A3B
sizes: {tp: 4}
env:
  OMP_NUM_THREADS: 1  # one
  VLLM_RPC_TIMEOUT: 3600000
args:
  max-model-len: 8192
  cuda-graph-sizes: [1, 2]
roles:
  single:
"""


def write(folder: Path, text: str = FILE, recipe: str = RECIPE) -> str:
    (folder / "own.yaml").write_text(recipe)
    (folder / "cluster.yaml").write_text(text)
    return str(folder / "cluster.yaml")


def texts(made: Upgraded) -> dict[str, str]:
    return {Path(path).name: text for path, text in made.files.items()}


def test_a_file_and_its_recipe(tmp_path: Path) -> None:
    file = write(tmp_path)
    made = upgrade(file, NEW, file, ["VLLM_RPC_TIMEOUT"])
    new = FILE.replace("v0.13.0rc1", NEW).replace("own.yaml", f"own-{NEW}.yaml")
    new = new.replace("  VLLM_ASCEND_ENABLE_FLASHCOMM1: 1  # faster\n  VLLM_USE_V1: 1\n", "")
    new = new.replace("{dynamic_eplb: true}", "{eplb_config: {dynamic_eplb: true}}")
    new = new.replace("  disable-log-requests: true\n", "")
    recipe = RECIPE.replace("  VLLM_RPC_TIMEOUT: 3600000\n", "")
    recipe = recipe.replace("cuda-graph-sizes", "cudagraph-capture-sizes")
    assert texts(made) == {
        "cluster.yaml": f"{new}features: {{flashcomm1: 1}}\n",
        f"own-{NEW}.yaml": recipe,
    }


def test_each_change_has_its_reason_and_source(tmp_path: Path) -> None:
    file = write(tmp_path)
    made = upgrade(file, NEW, file, ["all"])
    kinds = {one.name: one.kind for _, one in made.changes}
    assert kinds == {
        "VLLM_ASCEND_ENABLE_FLASHCOMM1": "moved",
        "VLLM_USE_V1": "removed",
        "dynamic_eplb": "moved",
        "--disable-log-requests": "removed",
        "VLLM_RPC_TIMEOUT": "lost",
        "--cuda-graph-sizes": "moved",
        "recipe": "moved",
        "mlapo": "default",
        "ascend_compilation_config.fuse_qknorm_rope": "default",
        "enable_cpu_binding": "default",
        "--gpu-memory-utilization": "default",
        "driver": "default",
        "known-issue": "default",
    }
    assert all(one.what for _, one in made.changes)
    assert [one.name for _, one in made.changes if not one.source] == ["recipe"]
    lines = list(upgraded.lines(made))
    assert any("env.VLLM_USE_V1: removed: v0.23.0.post1 does not read it" in one for one in lines)
    assert json.loads(json.dumps(upgraded.data(made)))["changes"][0]["kind"] == "moved"


def test_what_cannot_be_carried_over_is_an_error(tmp_path: Path) -> None:
    text = FILE.replace("env:\n", "env:\n  VLLM_ASCEND_ENABLE_PREFETCH_MLP: 1\n")
    file = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        upgrade(file, NEW, file, [])
    assert caught.value.exit_code == EX_DATAERR
    first, second = map(str, caught.value.findings)
    assert first.startswith(f"{file}:9: error: env.VLLM_ASCEND_ENABLE_PREFETCH_MLP:")
    assert "--accept VLLM_ASCEND_ENABLE_PREFETCH_MLP" in first
    assert second.startswith(f"{tmp_path}/own.yaml:6: error: env.VLLM_RPC_TIMEOUT")


def test_a_result_with_errors_is_refused(tmp_path: Path) -> None:
    """FlashComm1 of the new release needs expert parallel for a model with experts."""
    file = write(tmp_path, FILE.replace("  enable-expert-parallel: true\n", ""))
    with pytest.raises(UserError) as caught:
        upgrade(file, NEW, file, ["all"])
    assert [one.code for one in caught.value.findings] == ["flashcomm1-refused"]


def test_an_unknown_release(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        upgrade(write(tmp_path), "v9", "x.yaml", [])
    assert caught.value.exit_code == EX_USAGE


def test_a_recipe_of_the_library_is_laid_over(tmp_path: Path) -> None:
    """It is not stated for the release: what must go is removed over it."""
    text = FILE.replace("own.yaml", "deepseek-v3.1-w8a8/pd-a3").replace("env:\n", "x:\n")
    text = text[: text.index("x:\n")] + _instances("deepseek-v3.1-w8a8/pd-a3")
    file = write(tmp_path, text)
    made = upgrade(file, NEW, file, ["all"])
    recipe = yaml.safe_load(texts(made)["cluster.yaml"])["recipe"]
    assert recipe == {"extends": "deepseek-v3.1-w8a8/pd-a3", "env": {"VLLM_RPC_TIMEOUT": None}}


def _instances(name: str) -> str:
    """Nodes and instances for every group of a recipe."""
    groups = recipes.load(name).on(OLD).groups
    nodes: dict[str, str] = {}
    instances: dict[str, Any] = {}
    for role, block in groups.items():
        names = [f"{role}{i}" for i in range(block.nodes or 1)]
        nodes |= {one: f"10.0.{len(instances)}.{i + 1}" for i, one in enumerate(names)}
        instances[role] = {"nodes": names, "role": role}
    document: dict[str, Any] = {"nodes": nodes, "instances": instances}
    if "prefill" in groups:
        document["proxy"] = {"node": next(iter(nodes)), "port": 12347}
    return yaml.safe_dump(document, sort_keys=False)


STATED = [
    (name, platform)
    for name in recipes.names()
    if OLD in recipes.load(name).releases
    for platform in recipes.load(name).platforms
]


@pytest.mark.parametrize(("name", "platform"), STATED)
def test_every_recipe_is_upgraded(name: str, platform: str, tmp_path: Path) -> None:
    head = {"name": "all", "release": OLD, "platform": platform, "nic": "eth0", "recipe": name}
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(head, sort_keys=False) + _instances(name))
    assert not check.check(file).failed
    made = upgrade(str(file), NEW, str(file), ["all"])
    file.write_text(made.files[str(file)])
    report = check.check(file)
    assert not report.failed
    dead = {"config-key-unread", "config-key-refused", "variable-gone", "feature-missing"}
    if NEW not in recipes.load(name).releases:
        assert not dead & {one.code for one in report.findings}
    assert all(one.source for _, one in made.changes)
