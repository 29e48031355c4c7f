"""The reference's scripts as they stand: imported, written, planned, and the same again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import ROOT
from tests.clusters.importing.imports import as_flags, command, environment, imported

SCRIPTS = Path(__file__).with_name("scripts")
CASES = {case["name"]: case for case in json.loads((ROOT / "tests/cases/serve.json").read_text())}
MP = {
    "mp-node0.sh:local_ip": "10.0.0.1",
    "mp-node1.sh:local_ip": "10.0.0.2",
    "node0_ip": "10.0.0.1",
    "nic_name": "eth0",
}
PD = {
    "prefill_node_1_ip": "10.0.0.11",
    "decode_node_1_ip": "10.0.0.21",
    "decode_node_2_ip": "10.0.0.22",
    "prefill_node_dp_port": "13389",
    "decode_node_dp_port": "13389",
    "ifname": "eth0",
}
DEPLOYMENTS = [
    (["single-128k"], {}, {"single-128k": "serve-0"}),
    (["a3-throughput"], {}, {"single-a3-throughput": "serve-0"}),
    (["mp-node0", "mp-node1"], MP, {"mp-leader": "serve-0", "mp-headless": "serve-1"}),
    (
        ["pd-decode-2", "pd-prefill-1", "pd-proxy", "pd-decode-1"],
        PD,
        {
            "pd-prefill": "prefill-0",
            "pd-decode-leader": "decode-0",
            "pd-decode-headless": "decode-1",
        },
    ),
]


@pytest.mark.parametrize(
    ("names", "given", "cases"), DEPLOYMENTS, ids=lambda value: str(value)[:40]
)
def test_the_reference_comes_back(
    names: list[str], given: dict[str, str], cases: dict[str, str], tmp_path: Path
) -> None:
    files = [SCRIPTS / f"{name}.sh" for name in names]
    made, deployment = imported(tmp_path, *files, given=given)
    assert made.lost == []
    assert made.comparison.added == {}
    assert made.comparison.commands == ()
    assert made.files.cluster["release"] == "v0.13.0rc1"
    for name, container in cases.items():
        case, argv = CASES[name], command(deployment, container)
        assert argv[:3] == ["vllm", "serve", case["model"]]
        planned = {
            flag: True if not values else json.loads(text) if text.startswith("{") else text
            for flag, values in as_flags(argv[3:]).items()
            for text in [" ".join(values)]
        }
        assert planned == case["flags"]
        env = environment(deployment, container)
        for variable, value in case["env"].items():
            assert env[variable] == value, variable


@pytest.mark.parametrize(
    ("names", "given", "cases"), DEPLOYMENTS, ids=lambda value: str(value)[:40]
)
def test_without_values_stand_ins_are_listed_and_nothing_is_lost(
    names: list[str], given: dict[str, str], cases: dict[str, str], tmp_path: Path
) -> None:
    made, deployment = imported(tmp_path, *(SCRIPTS / f"{name}.sh" for name in names))
    assert made.lost == []
    assert {item.name for item in made.open} >= {
        name.rpartition(":")[2] for name in given if name != "node0_ip"
    }
    assert all(
        str(node.address).startswith("192.0.2.") for node in deployment.cluster.nodes.values()
    )
    text = (tmp_path / "cluster.yaml").read_text()
    for item in made.open:
        if item.stands.startswith("192."):
            assert f"{item.stands}  # to fill in: {item.name}" in text


def test_the_files_read_as_if_written_by_a_person(tmp_path: Path) -> None:
    names = ("pd-prefill-1", "pd-decode-1", "pd-decode-2", "pd-proxy")
    imported(tmp_path, *(SCRIPTS / f"{name}.sh" for name in names), given=PD, name="qwen3-pd")
    assert (
        (tmp_path / "cluster.yaml").read_text()
        == """\
name: qwen3-pd
release: v0.13.0rc1
platform: a3
nic: eth0
recipe: ./recipe.yaml

nodes:
  node0: 10.0.0.11
  node1: 10.0.0.21
  node2: 10.0.0.22

instances:
  prefill:
    nodes: [node0]
  decode:
    nodes: [node1, node2]

proxy: {node: node0, kind: example, port: 12347}
"""
    )
    recipe = (tmp_path / "recipe.yaml").read_text()
    assert recipe.startswith("""\
description: Qwen3-235B-A22B-w8a8, prefill on one A3 node, decode on two A3 nodes
model: vllm-ascend/Qwen3-235B-A22B-w8a8
served_model_name: qwen3
platforms: [a3]
port: 8000
dp_rpc_port: 13389

env:
  VLLM_USE_MODELSCOPE: true
""")
    assert recipe.endswith("""\
roles:
  prefill:
    sizes: {tp: 8, dp: 2}
    env:
      HCCL_BUFFSIZE: 512
    args:
      max-num-seqs: 24
      max-num-batched-tokens: 16384
      enforce-eager: true
    kv_transfer: {kv_port: 30000, engine_id: 0}
  decode:
    nodes: 2
    sizes: {tp: 4, dp: 8}
    env:
      HCCL_BUFFSIZE: 1024
    args:
      max-num-seqs: 128
      max-num-batched-tokens: 256
      compilation-config: {cudagraph_mode: FULL_DECODE_ONLY}
      async-scheduling: true
    kv_transfer: {kv_port: 30100, engine_id: 1}
""")
