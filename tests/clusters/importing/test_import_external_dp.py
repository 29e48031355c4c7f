"""External data parallel: the launcher and its template, and the YAML of the nightly tests."""

from __future__ import annotations

import json
from pathlib import Path

from clusters.importing import run
from tests.clusters.importing.imports import as_flags, command, environment, imported, scripts

TEMPLATE = """\
nic_name="xxxx"
local_ip="xxxx"
export HCCL_IF_IP=$local_ip
export GLOO_SOCKET_IFNAME=$nic_name
export ASCEND_RT_VISIBLE_DEVICES=$1
export SERVER_PORT=$2
vllm serve m --host 0.0.0.0 --port $2 --data-parallel-size $3 --data-parallel-rank $4 \\
  --data-parallel-address $5 --data-parallel-rpc-port $6 --tensor-parallel-size $7 \\
  --enable-expert-parallel {more}
"""
LAUNCH = (
    "python launch_online_dp.py --dp-size {dp} --tp-size {tp} --dp-size-local {local}"
    " --dp-rank-start {first} --dp-address {to} --dp-rpc-port 12321 --vllm-start-port 7100\n"
)


def transfer(role: str) -> str:
    blocks = {"prefill": {"dp_size": 2, "tp_size": 8}, "decode": {"dp_size": 4, "tp_size": 4}}
    made = {
        "kv_connector": "MooncakeConnectorV1",
        "kv_role": role,
        "kv_port": "36000",
        "kv_connector_extra_config": blocks,
    }
    return f"--kv-transfer-config '{json.dumps(made)}'"


def test_a_template_and_its_launchers(tmp_path: Path) -> None:
    texts = {
        "run_dp_template.sh": TEMPLATE.format(more=""),
        "node0.sh": LAUNCH.format(dp=4, tp=4, local=2, first=0, to="10.0.0.1"),
        "node1.sh": LAUNCH.format(dp=4, tp=4, local=2, first=2, to="10.0.0.1"),
    }
    made, deployment = imported(tmp_path / "out", *scripts(tmp_path, texts))
    assert made.lost == []
    assert made.comparison.commands == ()
    assert made.files.cluster["instances"]["serve"]["external"] is True
    assert [one.node.address for one in deployment.containers] == ["10.0.0.1"] * 2 + [
        "192.0.2.1"
    ] * 2
    for rank in range(4):
        found = as_flags(command(deployment, f"serve-{rank}")[3:])
        assert found["--data-parallel-rank"] == [str(rank)]
        assert found["--data-parallel-address"] == ["10.0.0.1"]
        assert found["--port"] == [str(7100 + rank % 2)]
        assert environment(deployment, f"serve-{rank}")["SERVER_PORT"] == str(7100 + rank % 2)
    assert [one.devices for one in deployment.containers] == [(0, 1, 2, 3), (4, 5, 6, 7)] * 2


def test_templates_find_the_launchers_of_their_sizes(tmp_path: Path) -> None:
    texts = {
        "decode.sh": TEMPLATE.format(more=transfer("kv_consumer")),
        "prefill.sh": TEMPLATE.format(more=transfer("kv_producer")),
        "launch.sh": LAUNCH.format(dp=2, tp=8, local=2, first=0, to="10.0.0.1")
        + LAUNCH.format(dp=4, tp=4, local=4, first=0, to="10.0.0.2"),
    }
    made, deployment = imported(tmp_path / "out", *scripts(tmp_path, texts))
    assert made.lost == []
    roles = [one.role for one in deployment.containers]
    assert roles == ["decode"] * 4 + ["prefill"] * 2
    assert as_flags(command(deployment, "decode-3")[3:])["--tensor-parallel-size"] == ["4"]
    assert {one.node.address for one in deployment.containers} == {"10.0.0.1", "10.0.0.2"}


def test_a_template_alone_is_planned_with_supposed_ranks(tmp_path: Path) -> None:
    texts = {"run_dp_template.sh": TEMPLATE.format(more=transfer("kv_consumer"))}
    made, deployment = imported(tmp_path / "out", *scripts(tmp_path, texts))
    assert made.lost == []
    assert len(deployment.containers) == 4
    assert any("no launcher is given" in note.text for note in made.doubts)


DOCUMENT = """\
# A model

## One node

```shell
export A=1
vllm serve m -tp 8
```

## Several nodes

**Node 0**

```{code-block} bash
   :substitutions:
local_ip="xxxx"
export HCCL_IF_IP=$local_ip
vllm serve m -tp 8 --data-parallel-size 2 --data-parallel-size-local 1 \\
  --data-parallel-address $local_ip --data-parallel-rpc-port 5555
```

Node 1

```shell
node0_ip="xxxx"
local_ip="xxxx"
export HCCL_IF_IP=$local_ip
vllm serve m -tp 8 --data-parallel-size 2 --data-parallel-size-local 1 --headless \\
  --data-parallel-start-rank 1 --data-parallel-address $node0_ip --data-parallel-rpc-port 5555
```

```python
print("vllm serve no")
```
"""


def test_a_document_has_several_deployments(tmp_path: Path) -> None:
    (path,) = scripts(tmp_path, {"guide.md": DOCUMENT})
    one, two = run.run([str(path)], run.Options(out=str(tmp_path)))
    assert [item.name for item in (one, two)] == ["guide-serve", "guide-serve-2"]
    assert (tmp_path / "guide-serve-2" / "cluster.yaml").is_file()
    assert one.lost == two.lost == []
    for group in (*one.layout.groups, *two.layout.groups):
        for server in group.servers:
            line = DOCUMENT.splitlines()[server.script.line - 1]
            assert line.startswith("vllm serve m")
    assert [len(item.layout.groups[0].members) for item in (one, two)] == [1, 2]


NIGHTLY = """\
model: "org/m"
num_nodes: 2
npu_per_node: 16
env_common: &env
  SERVER_PORT: 8080
  OMP_NUM_THREADS: 010
  HCCL_OP_RETRY_ENABLE: "L0:0, L1:0"
disaggregated_prefill: {{prefiller_host_index: [0], decoder_host_index: [1]}}
deployment:
  - server_cmd: >
      vllm serve "org/m" --host $LOCAL_IP --port $SERVER_PORT
      --data-parallel-size 2 --data-parallel-address $LOCAL_IP -tp 8
      {prefill}
  - envs:
      <<: *env
      ONLY: "true"
    server_cmd:
      - vllm
      - serve
      - org/m
      - --port
      - ${{SERVER_PORT}}
      - -tp
      - "4"
      - --data-parallel-size
      - "4"
      - --data-parallel-address
      - $MASTER_IP
      - --kv-transfer-config
      - '{decode}'
"""


def test_the_yaml_of_the_nightly_tests(tmp_path: Path) -> None:
    decode = transfer("kv_consumer").partition(" ")[2].strip("'")
    text = NIGHTLY.format(prefill=transfer("kv_producer"), decode=decode)
    made, deployment = imported(tmp_path / "out", *scripts(tmp_path, {"pd.yaml": text}))
    assert made.lost == []
    prefill, decoding = (environment(deployment, name) for name in ("prefill-0", "decode-0"))
    assert prefill["OMP_NUM_THREADS"] == "010"
    assert prefill["HCCL_OP_RETRY_ENABLE"] == "L0:0, L1:0"
    assert decoding["ONLY"] == "true"
    found = as_flags(command(deployment, "decode-0")[3:])
    assert found["--port"] == ["8080"]
    assert found["--data-parallel-address"] == ["192.0.2.2"]
    assert as_flags(command(deployment, "prefill-0")[3:])["--host"] == ["192.0.2.1"]
    assert {item.name for item in made.open} >= {"NODE_0_IP", "NODE_1_IP"}


EXTERNAL = """\
model: org/m
num_nodes: 2
npu_per_node: 16
config:
  - {node_index: 0, port_start: 7100, dp_rpc_port: 12321, dp_size: 4, dp_size_local: 2,
     dp_rank_start: 0, tp_size: 4, dp_address: "${NODE_0_IP}"}
  - {node_index: 1, port_start: 7100, dp_rpc_port: 12321, dp_size: 4, dp_size_local: 2,
     dp_rank_start: 2, tp_size: 4, dp_address: "${NODE_0_IP}"}
env_common: &env
  ASCEND_RT_VISIBLE_DEVICES: "${VISIBLE_DEVICES}"
  SERVER_PORT: "${PORT}"
templates:
  - &template
    node_index: 0
    envs: {<<: *env, X: 1}
    server_cmd_template: [--port, $SERVER_PORT, --data-parallel-size, "${DP_SIZE}",
      --data-parallel-rank, "${DP_RANK}", --data-parallel-address, "${DP_ADDRESS}",
      --data-parallel-rpc-port, "${DP_RPC_PORT}", --tensor-parallel-size, "${TP_SIZE}",
      --kv-transfer-config, '{"kv_connector": "MooncakeConnectorV1", "kv_role": "kv_consumer"}']
  - {<<: *template, node_index: 1}
"""


def test_the_yaml_of_external_data_parallel(tmp_path: Path) -> None:
    given = {"NODE_0_IP": "10.0.0.1", "NODE_1_IP": "10.0.0.2"}
    files = scripts(tmp_path, {"external.yaml": EXTERNAL})
    made, deployment = imported(tmp_path / "out", *files, given=given)
    assert made.lost == []
    assert made.comparison.commands == ()
    assert made.files.recipe["env"]["SERVER_PORT"] == "$PORT"
    found = as_flags(command(deployment, "decode-3")[3:])
    assert found["--data-parallel-rank"] == ["3"]
    assert found["--port"] == ["7101"]
    assert found["--data-parallel-address"] == ["10.0.0.1"]
    assert [one.node.address for one in deployment.containers] == ["10.0.0.1"] * 2 + [
        "10.0.0.2"
    ] * 2


CASES = """\
_cmd: &cmd [--port, $SERVER_PORT, --tensor-parallel-size, "2"]
test_cases:
  - {name: one, model: org/m, envs: {SERVER_PORT: 8001}, server_cmd: *cmd,
     server_cmd_extra: [--compilation-config, '{"cudagraph_mode": "PIECEWISE"}']}
  - {name: two, model: org/n, server_cmd: [--enforce-eager]}
"""


def test_the_yaml_of_single_nodes(tmp_path: Path) -> None:
    (path,) = scripts(tmp_path, {"single.yaml": CASES})
    one, two = run.import_all([str(path)], run.Options())
    assert one.files.recipe["model"] == "org/m"
    assert one.files.recipe["port"] == 8001
    assert one.files.recipe["args"]["compilation-config"] == {"cudagraph_mode": "PIECEWISE"}
    assert two.files.recipe["args"] == {"enforce-eager": True}
    assert one.lost == two.lost == []


MANIFEST = """\
kind: Deployment
spec:
  containers:
    - env: [{name: A, value: "1"}]
      command: [sh, -c]
      args: ["export B=2; vllm serve m --tensor-parallel-size 8"]
"""


def test_other_yaml_with_a_command_in_it(tmp_path: Path) -> None:
    (path,) = scripts(tmp_path, {"pod.yaml": MANIFEST})
    (one,) = run.import_all([str(path)], run.Options())
    assert one.files.recipe["env"] == {"A": "1", "B": "2"}
    assert one.files.recipe["sizes"] == {"tp": 8}
