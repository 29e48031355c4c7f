"""Precedence, derived values, warnings, and what is refused."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints import documents, printing
from entrypoints.findings import Refused
from entrypoints.inputs import data
from entrypoints.inputs.arguments import is_flag
from entrypoints.inputs.recipes import names
from entrypoints.inputs.roles import ROLES
from entrypoints.inputs.settings import VARIABLES
from entrypoints.launch.model import Launch
from entrypoints.launch.network import Host
from entrypoints.plan import plan

MULTI = {"RECIPE": "qwen3-235b-a22b/multi-node"}
PD = {"RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3"}
# What the image of the default release sets.
IMAGE = {"TASK_QUEUE_ENABLE": "1", "OMP_NUM_THREADS": "1"}
SINGLE = {"ROLE": "single", "RECIPE": "qwen3-235b-a22b-w8a8/single-128k"}
HERE = {"LOCAL_IP": "10.0.0.1", "NIC": "eth0"}
LEADER = {"ROLE": "leader", **MULTI, **HERE}
FOLLOWER = {"ROLE": "headless", **MULTI, **HERE, "NODE_RANK": "1", "LEADER_IP": "10.0.0.9"}
PREFILL = {"ROLE": "prefill", **PD, **HERE}
DECODE = {"ROLE": "decode", **PD, **HERE}
PLAIN = {"ROLE": "single", "MODEL": "/weights/m"}


def flag(launch: Launch, name: str) -> str | None:
    argv = list(launch.argv)
    return argv[argv.index(name) + 1] if name in argv else None


def kv(launch: Launch) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(flag(launch, "--kv-transfer-config") or "")
    return config


def codes(launch: Launch) -> list[str]:
    return [warning.code for warning in launch.warnings]


def refused(environ: dict[str, Any], *tokens: str, host: Host | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        plan(environ, tokens, *([host] if host else []))
    return caught.value


class TestPrecedence:
    def test_recipe_then_role_then_variable_then_argument(self) -> None:
        assert flag(plan(LEADER), "--tensor-parallel-size") == "8"
        less = {**LEADER, "TP_SIZE": "4"}
        assert flag(plan(less), "--tensor-parallel-size") == "4"
        assert flag(plan(less, ["-tp", "2"]), "--tensor-parallel-size") == "2"

    def test_role_replaces_recipe(self, tmp_path: Path) -> None:
        recipe = tmp_path / "r.yaml"
        recipe.write_text(
            "model: m\nenv: {A: 1, B: 1, C: 1}\n"
            "args: {seed: 1, block-size: 16, enforce-eager: true}\n"
            "roles:\n  single:\n    env: {B: 2, C: null}\n"
            "    args: {block-size: null, no-enforce-eager: true}\n"
        )
        launch = plan({"ROLE": "single", "RECIPE": str(recipe)})
        assert launch.env == {"A": "1", "B": "2", **IMAGE}
        assert list(launch.argv) == ["vllm", "serve", "m", "--seed", "1", "--no-enforce-eager"]

    def test_jemalloc_is_put_before_the_recipes_own_preloads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = tmp_path / "r.yaml"

        def preloads(text: str, **environ: str) -> str | None:
            recipe.write_text(f"{{model: m, env: {{LD_PRELOAD: '{text}'}}, roles: {{single: }}}}")
            given = {"ROLE": "single", "RECIPE": str(recipe), **environ}
            return plan(given).environment(given).get("LD_PRELOAD")

        is_file, read = data.is_file, data.read
        monkeypatch.setattr(data, "is_file", lambda path: path == "J" or is_file(path))
        monkeypatch.setattr(
            data,
            "read",
            lambda path: (
                {"release": "v0.13.0rc1", "jemalloc": ["J"]}
                if path.endswith("defaults.yaml")
                else read(path)
            ),
        )
        assert preloads("/opt/own.so") == "J:/opt/own.so"
        assert preloads("/opt/libjemalloc.so.1:$LD_PRELOAD") == "/opt/libjemalloc.so.1:"
        assert preloads("/opt/own.so:$LD_PRELOAD", LD_PRELOAD="x.so") == "J:/opt/own.so:x.so"
        assert preloads("/opt/own.so", LD_PRELOAD="x.so") == "J:x.so"
        assert preloads("/opt/own.so", JEMALLOC="0") == "/opt/own.so"

    def test_platform_env_is_below_the_recipe(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(documents.ENV_DIR, tmp_path, dirs_exist_ok=True)
        (tmp_path / "platforms/a9.yaml").write_text(
            "{description: A9, soc: s, devices: 1, hbm_gib: 1, hbm_bytes: 1,"
            " env: {P: 010, Q: True}}"
        )
        recipe = tmp_path / "r.yaml"
        recipe.write_text("{model: m, env: {Q: no}, roles: {single: }}")
        monkeypatch.setattr(documents, "ENV_DIR", str(tmp_path))
        launch = plan({"ROLE": "single", "RECIPE": str(recipe), "ASCEND_PLATFORM": "a9"})
        assert launch.env == {"P": "010", "Q": "no", **IMAGE}

    def test_what_upstreams_image_sets_is_below_all_others(self, tmp_path: Path) -> None:
        recipe = tmp_path / "r.yaml"
        recipe.write_text("{model: m, env: {OMP_NUM_THREADS: 10}, roles: {single: }}")
        place = "vllm-ascend v0.13.0rc1: Dockerfile:27, 28"
        none = plan({"ROLE": "single", "MODEL": "m"})
        assert (none.env, none.sources) == (IMAGE, dict.fromkeys(IMAGE, place))
        own = plan({"ROLE": "single", "MODEL": "m", "TASK_QUEUE_ENABLE": "2"})
        assert own.env == {**IMAGE, "TASK_QUEUE_ENABLE": "2"}
        assert own.sources == {"OMP_NUM_THREADS": place}
        of_recipe = plan({"ROLE": "single", "RECIPE": str(recipe)})
        assert of_recipe.env == {**IMAGE, "OMP_NUM_THREADS": "10"}
        assert of_recipe.sources == {"TASK_QUEUE_ENABLE": place}

    @pytest.mark.parametrize(
        "given", [{"VLLM_ASCEND_RELEASE": "v0.11.0"}, {"ASCEND_PLATFORM": "cpu"}]
    )
    def test_an_image_that_sets_nothing(self, given: dict[str, str]) -> None:
        launch = plan({"ROLE": "single", "MODEL": "m", **given})
        assert (launch.env, launch.sources) == ({}, {})

    def test_the_containers_variable_wins(self) -> None:
        launch = plan({**SINGLE, "HCCL_BUFFSIZE": "7", "OMP_NUM_THREADS": ""})
        assert launch.env["HCCL_BUFFSIZE"] == "7"
        assert launch.env["OMP_NUM_THREADS"] == ""

    def test_a_variable_that_extends_itself_is_not_replaced(self) -> None:
        launch = plan({**PREFILL, "LD_LIBRARY_PATH": "/image"})
        assert launch.env["LD_LIBRARY_PATH"].endswith("/mooncake:$LD_LIBRARY_PATH")
        whole = launch.environment({"LD_LIBRARY_PATH": "/image", "X": "$Y"})
        assert whole["LD_LIBRARY_PATH"].endswith("/mooncake:/image")
        assert whole["X"] == "$Y"

    def test_model_and_names(self) -> None:
        given_ = {**SINGLE, "MODEL": "/w", "SERVED_MODEL_NAME": "q", "PORT": "9000"}
        launch = plan(given_)
        assert launch.argv[2] == "/w"
        assert flag(launch, "--served-model-name") == "q"
        assert (flag(launch, "--port"), launch.ports["api"]) == ("9000", 9000)
        launch = plan(given_, ["--model", "/v", "--port=9001"])
        assert (launch.argv[2], launch.ports) == ("/v", {"api": 9001})
        assert "--model" not in launch.argv

    def test_without_recipe(self) -> None:
        launch = plan({**PLAIN, "TP_SIZE": "2"}, ["--max-model-len", "1"])
        assert " ".join(launch.argv) == (
            "vllm serve /weights/m --tensor-parallel-size 2 --max-model-len 1"
        )
        assert launch.env == IMAGE


class TestDerived:
    def test_more_nodes(self) -> None:
        more = {"NODES": "4", "DP_SIZE": "4"}
        last = plan({**FOLLOWER, **more, "NODE_RANK": "3"})
        assert flag(last, "--data-parallel-start-rank") == "3"
        assert flag(last, "--data-parallel-size-local") == "1"
        assert "--api-server-count" not in last.argv
        assert last.ports == {}
        assert plan({**LEADER, **more}).ports == {"api": 8000, "dp_rpc": 13389}

    def test_leader_worker_set(self, host: Host) -> None:
        pod = {
            "LWS_LEADER_ADDRESS": "10.0.0.9",
            "LWS_GROUP_SIZE": "2",
            "LWS_WORKER_INDEX": "1",
        }
        launch = plan({"ROLE": "headless", **MULTI, **pod}, host=host)
        assert flag(launch, "--data-parallel-address") == "10.0.0.9"
        assert flag(launch, "--data-parallel-start-rank") == "1"
        named = {**pod, "LWS_LEADER_ADDRESS": "lws-0.lws.default", **HERE}
        launch = plan({"ROLE": "headless", **MULTI, **named})
        assert flag(launch, "--data-parallel-address") == "lws-0.lws.default"
        own = {**pod, "LEADER_IP": "10.0.0.8"}
        launch = plan({"ROLE": "headless", **MULTI, **own}, host=host)
        assert flag(launch, "--data-parallel-address") == "10.0.0.8"

    @pytest.mark.parametrize(
        "given_", [{"NIC": "eth0"}, {"LOCAL_IP": "10.0.0.1"}, {"LEADER_IP": "10.0.0.1"}]
    )
    def test_address_and_interface_from_each_other(
        self, given_: dict[str, str], host: Host
    ) -> None:
        launch = plan({"ROLE": "leader", **MULTI, **given_}, host=host)
        assert launch.env["HCCL_IF_IP"] == launch.env["VLLM_HOST_IP"] == "10.0.0.1"
        assert launch.env["GLOO_SOCKET_IFNAME"] == "eth0"

    def test_nothing_is_looked_up_for_one_node(self) -> None:
        host = Host(lambda: pytest.fail("looked up"), lambda _: pytest.fail("looked up"))
        assert "HCCL_IF_IP" not in plan(SINGLE, host=host).env

    def test_own_sizes_are_in_the_kv_blocks(self) -> None:
        launch = plan({**PREFILL, "TP_SIZE": "4", "PP_SIZE": "2"})
        extra = kv(launch)["kv_connector_extra_config"]
        assert extra["prefill"] == {"dp_size": 2, "tp_size": 4, "pp_size": 2}
        assert extra["decode"] == {"dp_size": 8, "tp_size": 4}
        assert "kv-sizes-changed" in codes(launch)

    def test_kv_port_and_engine(self) -> None:
        launch = plan({**PREFILL, "KV_PORT": "36000", "ENGINE_ID": "p1"})
        assert (kv(launch)["kv_port"], kv(launch)["engine_id"]) == ("36000", "p1")
        assert launch.ports["kv"] == [36000, 36015]
        assert launch.ports["adxl"] == [20000, 35999]
        assert codes(launch) == ["kv-key-unread"]

    @pytest.mark.parametrize(("release", "port"), [("v0.13.0", "36000"), ("v0.18.0", "14579")])
    def test_kv_port_by_release(self, release: str, port: str, tmp_path: Path) -> None:
        recipe = tmp_path / "pd.yaml"
        recipe.write_text(
            "{model: m, kv_transfer: {kv_connector: MooncakeConnectorV1},"
            " roles: {prefill: {sizes: {tp: 4}}, decode: {sizes: {tp: 2, dp: 2}}}}"
        )
        environ = {**PREFILL, "RECIPE": str(recipe), "VLLM_ASCEND_RELEASE": release}
        launch = plan(environ)
        assert kv(launch) == {
            "kv_connector": "MooncakeConnectorV1",
            "kv_role": "kv_producer",
            "kv_port": port,
            "kv_connector_extra_config": {
                "prefill": {"dp_size": 1, "tp_size": 4},
                "decode": {"dp_size": 2, "tp_size": 2},
            },
        }
        assert "--data-parallel-address" not in launch.argv

    def test_one_key_of_the_kv_config(self) -> None:
        path = "--kv-transfer-config.kv_connector_extra_config.decode.tp_size"
        assert kv(plan(PREFILL, [path, "2"]))["kv_connector_extra_config"]["decode"] == {
            "dp_size": 8,
            "tp_size": 2,
        }


class TestWarnings:
    def test_the_reference(self) -> None:
        assert codes(plan(PREFILL)) == ["kv-port-in-adxl-range", "kv-key-unread"]

    @pytest.mark.parametrize(("base", "ports"), [("36100", [36100, 52099]), ("x", [20000, 35999])])
    def test_the_transport_is_moved_by_a_variable(self, base: str, ports: list[int]) -> None:
        launch = plan({**PREFILL, "ASCEND_BASE_PORT": base})
        assert launch.ports["adxl"] == ports
        assert ("kv-port-in-adxl-range" in codes(launch)) == (ports[0] == 20000)
        assert codes(plan(DECODE)) == ["kv-key-unread"]
        assert codes(plan(SINGLE)) == ["context-beyond-scaling"]

    @pytest.mark.parametrize(
        ("release", "expected"),
        [
            ("v0.11.0", ["feature-missing", "kv-port-in-adxl-range", "other-release"]),
            ("v0.13.0", ["kv-port-in-adxl-range", "kv-key-unread"]),
            ("v0.15.0rc1", ["kv-key-unread"]),
            ("v0.18.0", []),
            ("v0.23.0.post1", ["kv-key-unread"]),
        ],
    )
    def test_by_release(self, release: str, expected: list[str]) -> None:
        assert codes(plan({**PREFILL, "VLLM_ASCEND_RELEASE": release})) == expected

    def test_rpc_port_in_range(self) -> None:
        launch = plan({**DECODE, "DP_RPC_PORT": "29550"})
        assert "dp-rpc-port-in-adxl-range" in codes(launch)

    def test_other_platform(self) -> None:
        small = {"TP_SIZE": "4", "DP_SIZE": "2"}
        launch = plan({**PREFILL, **small, "ASCEND_PLATFORM": "a2"})
        assert "other-platform" in codes(launch)


REFUSED = [
    # environment, arguments, where, part of the line
    ({}, "", "ROLE", "is not set"),
    ({}, "", "RECIPE", "neither RECIPE nor MODEL"),
    ({**PLAIN, "ROLE": "decoder"}, "", "ROLE", "did you mean decode?"),
    ({**PLAIN, "ROLE": "gateway"}, "", "ROLE", "not a role of this version"),
    ({**SINGLE, "RECIPE": "single-128"}, "", "RECIPE", "did you mean"),
    ({**SINGLE, "RECIPE": "qwen3-235b-a22b/multinode"}, "", "RECIPE", "did you mean"),
    ({**SINGLE, "RECIPE": "../platforms/a2"}, "", "RECIPE", "not a recipe"),
    ({**SINGLE, "RECIPE": "/nowhere/x.yaml"}, "", "RECIPE", "is not a file"),
    ({**LEADER, "ROLE": "single"}, "", "ROLE", "has no single"),
    ({**PLAIN, "PORT": "http"}, "", "PORT", "from 1 to 65535"),
    ({**PLAIN, "PORT": "0"}, "", "PORT", "from 1 to 65535"),
    ({**PLAIN, "PORT": "65536"}, "", "PORT", "from 1 to 65535"),
    ({**PLAIN, "PORT": "\u0661"}, "", "PORT", "from 1 to 65535"),
    ({**PLAIN, "KV_PORT": "tcp://10.0.0.1:80"}, "", "KV_PORT", "enableServiceLinks"),
    ({**PLAIN, "TP_SIZE": "8 "}, "", "TP_SIZE", "not a whole number"),
    ({**PLAIN, "MODEL": "-x"}, "", "MODEL", "dash"),
    ({**PLAIN, "NODES": "2"}, "", "NODES", "one node"),
    ({**PLAIN, "NODE_RANK": "1"}, "", "NODE_RANK", "rank 0"),
    ({**PLAIN, "ASCEND_PLATFORM": "a4"}, "", "ASCEND_PLATFORM", "known: a2, a3"),
    ({**PLAIN, "ASCEND_PLATFORM": "../a3"}, "", "ASCEND_PLATFORM", "no facts"),
    ({**PLAIN, "VLLM_ASCEND_RELEASE": "v0.13"}, "", "VLLM_ASCEND_RELEASE", "did you mean"),
    ({**PLAIN, "ASCEND_PLATFORM": "a2", "TP_SIZE": "16"}, "", "TP_SIZE", "Atlas 800 A2 has 8"),
    ({**PLAIN, "ASCEND_RT_VISIBLE_DEVICES": "0,1", "TP_SIZE": "4"}, "", "TP_SIZE", "has 2"),
    ({**LEADER, "DP_SIZE": "3"}, "", "DP_SIZE", "do not make"),
    ({**LEADER, "NODE_RANK": "1"}, "", "NODE_RANK", "ROLE=headless"),
    ({**LEADER, "LEADER_IP": "10.0.0.2"}, "", "LEADER_IP", "leave LEADER_IP out"),
    ({**LEADER, "LOCAL_IP": "fe80::1"}, "", "LOCAL_IP", "IPv4"),
    ({**LEADER, "LOCAL_IP": "10.0.0.256"}, "", "LOCAL_IP", "IPv4"),
    ({**LEADER, "NIC": "eth0,eth1 "}, "", "NIC", "interface"),
    ({**LEADER, "GROUP": "decode"}, "", "GROUP", "contradicts"),
    ({**FOLLOWER, "LEADER_IP": ""}, "", "LEADER_IP", "is not set"),
    ({**FOLLOWER, "LEADER_IP": "a b"}, "", "LEADER_IP", "host name"),
    ({**FOLLOWER, "NODE_RANK": ""}, "", "NODE_RANK", "from 1 to 1"),
    ({**FOLLOWER, "NODE_RANK": "0"}, "", "NODE_RANK", "ROLE=leader"),
    ({**FOLLOWER, "NODE_RANK": "2"}, "", "NODE_RANK", "not below"),
    ({**FOLLOWER, **PD}, "", "GROUP", "prefill, decode"),
    ({**FOLLOWER, **PD, "GROUP": "leader"}, "", "GROUP", "no headless nodes"),
    ({**FOLLOWER, **PD, "GROUP": "decoder"}, "", "GROUP", "did you mean decode?"),
    ({**FOLLOWER, "LWS_WORKER_INDEX": "x", "NODE_RANK": ""}, "", "LWS_WORKER_INDEX", "number"),
    ({**PREFILL, "RECIPE": "", "MODEL": "m"}, "", "RECIPE", "needs a KV transfer"),
    ({**PREFILL, "KV_PORT": "65535"}, "", "KV_PORT", "exceed 65535"),
    ({**PREFILL, "KV_PORT": "7995"}, "", "PORT", "overlap"),
    (PREFILL, "--kv-transfer-config x", "--kv-transfer-config", "JSON object"),
    (PREFILL, "--kv-transfer-config.kv_port x", "--kv-transfer-config", "not a port"),
    (PLAIN, "--port x", "--port", "not a whole number"),
    (PLAIN, "-tp", "--tensor-parallel-size", "needs one value"),
    (PLAIN, "m --x", "arguments", "is not a flag"),
]


@pytest.mark.parametrize(("environ", "tokens", "where", "part"), REFUSED)
def test_refused(environ: dict[str, Any], tokens: str, where: str, part: str) -> None:
    error = refused(environ, *tokens.split())
    assert error.exit_code == 64
    lines = [p.line() for p in error.findings if p.where == where]
    assert any(part in line for line in lines), [p.line() for p in error.findings]
    assert len(lines) == 1


def test_address_that_cannot_be_found(host: Host) -> None:
    error = refused({"ROLE": "leader", **MULTI, "LOCAL_IP": "10.9.9.9"}, host=host)
    assert [p.where for p in error.findings] == ["NIC"]
    assert "eth1 192.168.0.1" in error.findings[0].line()


def test_everything_at_once() -> None:
    error = refused(
        {
            "ROLE": "headles",
            "RECIPE": "x",
            "PORT": "y",
            "TP_SIZE": "0",
            "ASCEND_PLATFORM": "q",
            "VLLM_ASCEND_RELEASE": "r",
        },
        "z",
    )
    assert sorted(p.where for p in error.findings) == sorted(
        ["PORT", "TP_SIZE", "arguments", "RECIPE", "ASCEND_PLATFORM", "VLLM_ASCEND_RELEASE", "ROLE"]
    )
    assert all("\n" not in p.line() for p in error.findings)


# Values that mean something somewhere, mixed with anything else.
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
WORDS = "0 1 2 4 8 16 8000 30000 65535 a2 a3 m v0.11.0 10.0.0.1 10.0.0.2 eth0 host.name $PORT"
SENSE = st.sampled_from([*ROLES, *names(), *WORDS.split(), ""])
VALUE = st.one_of(SENSE, SENSE, SENSE, TEXT)
NAME = st.sampled_from(
    [v.name for v in VARIABLES]
    + [v.lws_variable for v in VARIABLES if v.lws_variable]
    + ["HCCL_BUFFSIZE", "LD_LIBRARY_PATH", "VLLM_HOST_IP", "ASCEND_RT_VISIBLE_DEVICES"]
)
START = st.sampled_from([{}, SINGLE, LEADER, FOLLOWER, PREFILL, DECODE, PLAIN])
TOKEN = st.one_of(
    st.sampled_from(["-tp", "--port", "--seed", "--kv-transfer-config", "--kv_port.x", "--a.b+"]),
    st.sampled_from(["1", "8", "{}", '{"kv_port": 1}', "--", "--model=x"]),
    st.text(string.printable, max_size=6),
)


def check_findings(error: Refused) -> None:
    assert error.findings
    assert error.exit_code in (64, 65)
    assert all(p.line() and p.fix and p.line().isprintable() for p in error.findings)


@given(START, st.dictionaries(NAME, VALUE, max_size=6), st.lists(TOKEN, max_size=4))
def test_any_environment_is_a_plan_or_findings(
    start: dict[str, str], change: dict[str, str], tokens: list[str]
) -> None:
    host = Host(lambda: [("eth0", "10.0.0.1")], lambda _: "10.0.0.1")
    try:
        launch = plan({**start, **change}, tokens, host)
    except Refused as error:
        check_findings(error)
        return
    assert list(launch.argv[:2]) == ["vllm", "serve"]
    assert not is_flag(launch.argv[2])
    assert all(isinstance(value, str) for value in launch.environment({}).values())
    document = json.loads(printing.plan_json(launch))
    assert document["argv"] == list(launch.argv)
    printing.plan_text(launch)
