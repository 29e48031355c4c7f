"""How a group's ranks lie on its nodes: external data parallel, one rank over nodes, parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from entrypoints import documents
from entrypoints.findings import Refused
from entrypoints.inputs import data
from entrypoints.inputs.arguments import is_flag
from entrypoints.launch.model import Launch
from entrypoints.plan import plan

HERE = {"LOCAL_IP": "10.0.0.22", "NIC": "eth0"}
DECODE = {"ROLE": "decode", "RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3", **HERE}
PREFILL = {**DECODE, "ROLE": "prefill"}


def flags(launch: Launch) -> dict[str, str]:
    found: dict[str, str] = {}
    for token in launch.argv[3:]:
        if is_flag(token):
            found[token] = ""
        else:
            found[list(found)[-1]] = token
    return found


def refused(environ: dict[str, str], *tokens: str) -> str:
    with pytest.raises(Refused) as caught:
        plan(environ, tokens)
    return str(caught.value)


class TestExternal:
    """One server a rank, as vllm-ascend's examples/external_online_dp start them."""

    @pytest.mark.parametrize(
        ("rank", "port", "devices"),
        [(0, "8000", "0,1,2,3"), (3, "8003", "12,13,14,15"), (4, "8000", "0,1,2,3")],
    )
    def test_a_rank(self, rank: int, port: str, devices: str) -> None:
        leader = {"LEADER_IP": "10.0.0.21"} if rank else {}
        launch = plan({**DECODE, "DP_RANK": str(rank), **leader})
        found = flags(launch)
        assert found["--data-parallel-rank"] == str(rank)
        assert found["--data-parallel-size"] == "8"
        address = "10.0.0.21" if rank else HERE["LOCAL_IP"]
        assert found["--data-parallel-address"] == address
        assert found["--data-parallel-rpc-port"] == "13389"
        for gone in ("--data-parallel-size-local", "--data-parallel-start-rank", "--headless"):
            assert gone not in found
        assert found["--port"] == port
        assert launch.env["ASCEND_RT_VISIBLE_DEVICES"] == devices
        assert [(p.host, p.port) for p in launch.peers] == ([("10.0.0.21", 13389)] * bool(rank))
        assert ("dp_rpc" in launch.ports) == (rank == 0)

    def test_without_a_transfer(self) -> None:
        multi = {"ROLE": "leader", "RECIPE": "qwen3-235b-a22b/multi-node", **HERE}
        found = flags(plan({**multi, "DP_RANK": "1", "LEADER_IP": "10.0.0.9"}))
        assert found["--data-parallel-rank"] == "1"
        assert found["--data-parallel-address"] == "10.0.0.9"
        assert "--headless" not in found

    def test_a_producers_ports_go_by_its_rank(self) -> None:
        leader = {"DP_RANK": "1", "LEADER_IP": "10.0.0.1", "KV_PORT": "36000"}
        assert plan({**PREFILL, **leader}).ports["kv"] == [36008, 36015]

    def test_given_values_win(self) -> None:
        given = {"DP_RANK": "5", "LEADER_IP": "10.0.0.21", "PORT": "9100"}
        launch = plan({**DECODE, **given, "ASCEND_RT_VISIBLE_DEVICES": "8,9,10,11"})
        assert flags(launch)["--port"] == "9100"
        assert launch.env["ASCEND_RT_VISIBLE_DEVICES"] == "8,9,10,11"

    @pytest.mark.parametrize(
        ("change", "part"),
        [
            ({"DP_RANK": "8", "LEADER_IP": "h"}, "8 is not below DP_SIZE 8"),
            ({"DP_RANK": "1"}, "LEADER_IP: is not set"),
            (
                {"ROLE": "headless", "GROUP": "decode", "DP_RANK": "1", "LEADER_IP": "h"},
                "contradicts ROLE=headless",
            ),
            (
                {"ROLE": "ray-head", "RECIPE": "qwen3-235b-a22b/ray", "DP_RANK": "0"},
                "option of leader, prefill and decode",
            ),
            (
                {"DP_RANK": "0", "DP_SIZE_LOCAL": "8", "NODES": "1"},
                "x 8 local ranks need 32 devices",
            ),
            (
                {"DP_RANK": "0", "ASCEND_RT_VISIBLE_DEVICES": "0,1"},
                "need 4 devices on a node, ASCEND_RT_VISIBLE_DEVICES has 2",
            ),
        ],
    )
    def test_refused(self, change: dict[str, str], part: str) -> None:
        assert part in refused({**DECODE, **change})


class TestOneRankOverNodes:
    GROUP: ClassVar = {
        "MODEL": "m",
        "TP_SIZE": "8",
        "PP_SIZE": "2",
        "NODES": "2",
        "ASCEND_PLATFORM": "a2",
    }

    def test_leader(self) -> None:
        launch = plan({**self.GROUP, "ROLE": "leader", **HERE})
        found = flags(launch)
        assert (found["--nnodes"], found["--node-rank"]) == ("2", "0")
        assert found["--master-addr"] == HERE["LOCAL_IP"]
        assert "--headless" not in found
        assert launch.ports == {"api": 8000, "master": 29501}
        assert not launch.peers

    def test_follower(self) -> None:
        follower = {"ROLE": "headless", "NODE_RANK": "1", "LEADER_IP": "10.0.0.21", **HERE}
        launch = plan({**self.GROUP, **follower}, ["--master-port", "7001"])
        found = flags(launch)
        assert (found["--nnodes"], found["--node-rank"]) == ("2", "1")
        assert found["--master-addr"] == "10.0.0.21"
        assert found["--headless"] == ""
        assert [(p.host, p.port) for p in launch.peers] == [("10.0.0.21", 7001)]

    def test_devices_are_counted_per_node(self) -> None:
        group = {**self.GROUP, "ROLE": "leader", **HERE}
        assert "need 16 devices on a node" in refused({**group, "PP_SIZE": "4"})

    def test_context_parallel_takes_devices(self) -> None:
        group = {**self.GROUP, "ROLE": "leader", **HERE, "PP_SIZE": "", "PCP_SIZE": "2"}
        assert flags(plan(group))["--prefill-context-parallel-size"] == "2"
        assert "x pcp 4" in refused({**group, "PCP_SIZE": "4"})


MULTI = """\
model: m
platforms: [a3]
kv_transfer:
  kv_connector: MultiConnector
  kv_connector_extra_config:
    connectors:
      - kv_connector: MooncakeConnectorV1
        kv_port: 36000
        kv_connector_extra_config: {use_ascend_direct: true}
      - kv_connector: AscendStoreConnector
        kv_connector_extra_config: {backend: mooncake, lookup_rpc_port: "0"}
roles:
  prefill: {sizes: {tp: 8, dp: 2}}
  decode: {sizes: {tp: 4, dp: 4}}
"""


class TestMultiConnector:
    @pytest.fixture
    def environ(self, tmp_path: Path) -> dict[str, str]:
        recipe = tmp_path / "multi.yaml"
        recipe.write_text(MULTI)
        return {**HERE, "ROLE": "prefill", "RECIPE": str(recipe)}

    def test_blocks_go_to_the_mooncake_part(self, environ: dict[str, str]) -> None:
        launch = plan({**environ, "ENGINE_ID": "7"})
        config = json.loads(flags(launch)["--kv-transfer-config"])
        assert (config["kv_role"], config["engine_id"]) == ("kv_producer", "7")
        assert "kv_port" not in config
        mooncake, store = config["kv_connector_extra_config"]["connectors"]
        assert mooncake["kv_role"] == store["kv_role"] == "kv_producer"
        assert mooncake["kv_port"] == "36000"
        extra = mooncake["kv_connector_extra_config"]
        assert extra["prefill"] == {"dp_size": 2, "tp_size": 8}
        assert extra["decode"] == {"dp_size": 4, "tp_size": 4}
        assert store["kv_connector_extra_config"] == {"backend": "mooncake", "lookup_rpc_port": "0"}
        assert launch.ports["kv"] == [36000, 36015]

    def test_kv_port_variable(self, environ: dict[str, str]) -> None:
        assert plan({**environ, "KV_PORT": "40000"}).ports["kv"] == [40000, 40015]

    def test_blocks_by_hand_are_refused(self, environ: dict[str, str], tmp_path: Path) -> None:
        recipe = tmp_path / "multi.yaml"
        recipe.write_text(MULTI.replace("use_ascend_direct: true", "prefill: {tp_size: 1}"))
        assert "connectors[0].kv_connector_extra_config.prefill" in refused(environ)


class TestReferences:
    RECIPE = """\
model: m
roles: {leader: }
nodes: 2
sizes: {dp: 2}
env: {MASTER: "$LEADER_IP", MIX: "${NIC}:$HOME"}
args:
  host: $LOCAL_IP
  additional-config: {note: "${LOCAL_IP}:$PORT of $OTHER"}
"""

    def test_filled_in(self, tmp_path: Path) -> None:
        recipe = tmp_path / "r.yaml"
        recipe.write_text(self.RECIPE)
        launch = plan({"ROLE": "leader", "RECIPE": str(recipe), **HERE})
        assert launch.env["MASTER"] == HERE["LOCAL_IP"]
        assert launch.env["MIX"] == "eth0:$HOME"
        assert launch.expands == {"MIX"}
        assert flags(launch)["--host"] == HERE["LOCAL_IP"]
        note = json.loads(flags(launch)["--additional-config"])["note"]
        assert note == "10.0.0.22:8000 of $OTHER"

    def test_what_is_not_known_here(self, tmp_path: Path) -> None:
        recipe = tmp_path / "r.yaml"
        recipe.write_text("{model: m, args: {host: $NIC}, roles: {single: }}")
        text = refused({"ROLE": "single", "RECIPE": str(recipe)})
        assert "refers to $NIC, which is not known here; set NIC on this node" in text


def test_cached_documents_follow_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "ENV_DIR", str(tmp_path))
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    file = tmp_path / "x.yaml"
    file.write_text("a: 1")
    assert data.read(str(file)) == {"a": 1}
    cache = tmp_path / "__pycache__" / "x.yaml.json"
    kept = json.loads(cache.read_text())
    assert kept["document"] == {"a": 1}
    cache.write_text(json.dumps({**kept, "document": {"a": 2}}))
    assert data.read(str(file)) == {"a": 2}  # it is the cache that is read
    file.write_text("a: 30")
    assert data.read(str(file)) == {"a": 30}
    cache.write_text("no JSON")
    assert data.read(str(file)) == {"a": 30}
    file.write_text("{1: x, y: z}")
    assert data.read(str(file)) == {1: "x", "y": "z"}  # JSON cannot hold it, so it is not kept
    assert json.loads(cache.read_text())["document"] == {"a": 30}
