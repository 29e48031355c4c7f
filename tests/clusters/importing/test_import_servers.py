"""From commands to instances: flags in every spelling, places, and what needs an escape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusters.deployment import Deployment
from clusters.importing import run, servers
from clusters.importing.scripts import read
from clusters.importing.servers import Server
from common.errors import UserError
from entrypoints.inputs import catalogue, stack
from tests.clusters.importing.imports import as_flags, command, environment, imported, scripts

LEADER = "--data-parallel-size 4 --data-parallel-size-local 2 --data-parallel-address"


def server(text: str, release: str = "v0.13.0") -> Server:
    made = stack.release(release, [])
    assert made
    (one,) = read(text, "run.sh").scripts
    return servers.read(one, catalogue.load(made))


def flags(one: Server) -> dict[str, tuple[str, ...]]:
    return {flag.name: flag.values for those in one.flags.values() for flag in those}


# ---- a command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve org/m -tp 4 --max_num_seqs=8 --no-enable-prefix-caching",
        "vllm serve --model org/m --tensor-parallel-size 4 --max-num-seqs 8"
        " --no_enable_prefix_caching",
        "vllm serve --tensor-parallel-size=4 --enforce-eager --no-enforce-eager org/m"
        " --max-num-seqs 8 --no-enable-prefix-caching",
    ],
)
def test_spellings_come_down_to_one(text: str) -> None:
    one = server(text)
    assert one.model == "org/m"
    found = flags(one)
    assert found["--tensor-parallel-size"] == ("4",)
    assert found["--max-num-seqs"] == ("8",)
    assert found["--no-enable-prefix-caching"] == ()
    assert one.numbers["tp"] == 4


def test_dotted_flags_repeats_and_stray_words() -> None:
    one = server(
        "vllm serve m --hf-overrides.a.b 1 --hf-overrides '{\"c\": 2}' --hf-overrides.d x"
        " --seed 1 --seed 2 --enforce-eager extra ---port 9"
    )
    assert flags(one)["--seed"] == ("2",)
    assert json.loads(flags(one)["--hf-overrides"][0]) == {"c": 2, "d": "x"}
    assert one.stray == ("extra",)
    assert one.numbers["port"] == 9


def test_a_port_that_is_left_open_gets_one_that_is_told() -> None:
    one = server("vllm serve m --port $PORT --data-parallel-rpc-port your_port")
    assert one.placeholders == {"PORT": "8000", "your_port": "13389"}
    assert flags(one)["--port"] == ("8000",)


@pytest.mark.parametrize(
    ("text", "placeholder"),
    [
        *(("10.0.0.1", False), ("node-1.example.com", False), ("12321", False)),
        *(("$ip", True), ("<node ip>", True), ("node_1_ip", True), ("", True)),
        *(("xx.xx.xx.1", True), ("{local_ip}", True)),
    ],
)
def test_placeholders_are_told_from_names_of_hosts(text: str, placeholder: bool) -> None:
    assert servers.is_placeholder(text) == placeholder


# ---- from scripts to a plan ----------------------------------------------------------------------


def round_trip(folder: Path, texts: dict[str, str]) -> tuple[run.Imported, Deployment]:
    made, deployment = imported(folder / "out", *scripts(folder, texts))
    return made, deployment


def test_what_differs_on_a_node_is_its_override(tmp_path: Path) -> None:
    common = "export A=1\nexport HCCL_IF_IP={ip} LEADER=10.0.0.1\nexport B={b}\n"
    serve = f"vllm serve m {LEADER} 10.0.0.1 --data-parallel-rpc-port 5555 -tp 2 --seed {{seed}}"
    texts = {
        "a.sh": common.format(ip="10.0.0.1", b=1)
        + serve.format(seed=1)
        + " --host 10.0.0.1 --api-server-count 2",
        "b.sh": common.format(ip="10.0.0.2", b=2)
        + serve.format(seed=2)
        + " --headless --data-parallel-start-rank 2 --enforce-eager",
    }
    made, deployment = round_trip(tmp_path, texts)
    assert made.lost == []
    assert made.files.recipe["env"] == {"A": "1"}
    overrides = made.files.cluster["instances"]["serve"]["overrides"]
    assert overrides["node1"]["arguments"] == ["--seed", "2", "--enforce-eager"]
    assert environment(deployment, "serve-1")["B"] == "2"
    assert environment(deployment, "serve-0")["LEADER"] == "10.0.0.1"
    first, second = (as_flags(command(deployment, f"serve-{i}")[3:]) for i in (0, 1))
    assert first["--host"] == ["10.0.0.1"]
    assert first["--api-server-count"] == ["2"]
    assert "--api-server-count" not in second
    assert second["--data-parallel-address"] == ["10.0.0.1"]
    assert second["--data-parallel-start-rank"] == ["2"]


def test_a_node_whose_script_is_not_given_has_a_stand_in(tmp_path: Path) -> None:
    texts = {"b.sh": f"vllm serve m {LEADER} 10.0.0.1 --headless --data-parallel-start-rank 2"}
    made, deployment = round_trip(tmp_path, texts)
    assert made.lost == []
    assert [one.node.address for one in deployment.containers] == ["10.0.0.1", "192.0.2.1"]
    assert any("rank 0 of serve" in item.name for item in made.open)


def test_two_instances_of_one_side_keep_their_identities(tmp_path: Path) -> None:
    def side(role: str, port: int, engine: int, tp: int) -> str:
        blocks = {"prefill": {"dp_size": 1, "tp_size": 8}, "decode": {"dp_size": 1, "tp_size": 4}}
        transfer = {
            "kv_connector": "MooncakeConnectorV1",
            "kv_role": role,
            "kv_port": str(port),
            "engine_id": str(engine),
            "kv_connector_extra_config": blocks,
        }
        return (
            f"export HCCL_IF_IP=10.0.0.{engine}\n"
            f"vllm serve m -tp {tp} --kv-transfer-config '{json.dumps(transfer, indent=1)}'"
        )

    texts = {
        "p1.sh": side("kv_producer", 36000, 1, 8),
        "p2.sh": side("kv_producer", 36100, 2, 8),
        "d.sh": side("kv_consumer", 36200, 3, 4),
    }
    made, deployment = round_trip(tmp_path, texts)
    assert made.lost == []
    assert list(made.files.cluster["instances"]) == ["prefill-1", "prefill-2", "decode"]
    for name, engine in (("prefill-1-0", "1"), ("prefill-2-0", "2"), ("decode-0", "3")):
        (text,) = as_flags(command(deployment, name)[3:])["--kv-transfer-config"]
        assert json.loads(text)["engine_id"] == engine
        assert json.loads(text)["kv_connector_extra_config"]["decode"] == {
            "dp_size": 1,
            "tp_size": 4,
        }


def test_wrong_blocks_of_a_transfer_come_back_as_they_are(tmp_path: Path) -> None:
    transfer = {
        "kv_connector": "MultiConnector",
        "kv_role": "kv_consumer",
        "kv_connector_extra_config": {
            "use_layerwise": False,
            "connectors": [
                {
                    "kv_connector": "MooncakeConnectorV1",
                    "kv_role": "kv_consumer",
                    "kv_port": 20001,
                    "kv_connector_extra_config": {
                        "prefill": {"dp_size": 9, "tp_size": 9},
                        "decode": {"dp_size": 1, "tp_size": 4, "pp_layer_partition": "1,2"},
                    },
                },
                {"kv_connector": "AscendStoreConnector", "kv_role": "kv_consumer"},
            ],
        },
    }
    texts = {"d.sh": f"vllm serve m -tp 4 --kv-transfer-config '{json.dumps(transfer)}'"}
    made, deployment = round_trip(tmp_path, texts)
    assert made.lost == []
    (text,) = as_flags(command(deployment, "decode-0")[3:])["--kv-transfer-config"]
    assert json.loads(text) == transfer


def test_what_a_recipe_cannot_hold_is_an_argument(tmp_path: Path) -> None:
    texts = {
        "a.sh": "export VLLM-X=1 LD_PRELOAD=/a.so:$LD_PRELOAD\n"
        "vllm serve m --middleware a.b --middleware c.d --served-model-name a b --strange-flag 1"
        " --data-parallel-address 10.0.0.7 --nnodes 3 --data-parallel-size 0 --chat-template -x"
    }
    made, deployment = round_trip(tmp_path, texts)
    assert made.lost == []
    argv = command(deployment, "serve-0")
    assert argv.count("--middleware") == 2
    found = as_flags([word for word in argv[3:] if word not in ("--middleware", "a.b", "c.d")])
    assert found["--strange-flag"] == ["1"]
    assert found["--data-parallel-size"] == ["0"]
    assert found["--nnodes"] == ["3"]
    assert environment(deployment, "serve-0")["VLLM-X"] == "1"
    assert any(f.code == "unknown-flag" for f in made.comparison.findings)


def test_a_reference_that_only_one_node_has_is_lost_and_said(tmp_path: Path) -> None:
    serve = f"vllm serve m {LEADER} 10.0.0.1 -tp 2"
    texts = {
        "a.sh": f"export HCCL_IF_IP=10.0.0.1 P=/a:$P Q=/q:$Q\n{serve}",
        "b.sh": f"export HCCL_IF_IP=10.0.0.2 P=/b:$P Q=/q:$Q\n{serve} --headless"
        " --data-parallel-start-rank 2",
    }
    made, deployment = round_trip(tmp_path, texts)
    assert [text.rpartition("/")[2] for text in made.lost] == ["a:$P", "b:$P"]
    assert made.comparison.commands == ()
    assert environment(deployment, "serve-1")["Q"] == "/q:$Q"


def test_servers_on_one_machine_have_their_devices(tmp_path: Path) -> None:
    text = "\n".join(
        f"ASCEND_RT_VISIBLE_DEVICES={devices} vllm serve m -tp 4 --port {port} > log &"
        for devices, port in (("0,1,2,3", 8000), ("4,5,6,7", 8001))
    )
    made, deployment = round_trip(tmp_path, {"both.sh": text})
    assert made.lost == []
    assert [one.devices for one in deployment.containers] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert len({one.node.name for one in deployment.containers}) == 1
    ports = [as_flags(command(deployment, f"serve-{i}-0")[3:])["--port"] for i in (1, 2)]
    assert ports == [["8000"], ["8001"]]


def test_a_ray_cluster(tmp_path: Path) -> None:
    texts = {
        "head.sh": "export HCCL_IF_IP=10.0.0.1 GLOO_SOCKET_IFNAME=eth0 OWN=1\n"
        "ray start --head --port=6380 --num-cpus=8\n"
        "vllm serve m --distributed-executor-backend ray -tp 16 -pp 2",
        "worker.sh": "export GLOO_SOCKET_IFNAME=eth0\n"
        "ray start --address=10.0.0.1:6380 --node-ip-address 10.0.0.2",
    }
    made, deployment = round_trip(tmp_path, texts)
    assert made.lost == []
    head, worker = deployment.containers
    assert (head.role, worker.role) == ("ray-head", "ray-worker")
    assert worker.node.address == "10.0.0.2"
    assert head.launch is not None
    assert list(head.launch.before[0])[-1] == "--num-cpus=8"
    assert "6380" in head.launch.before[0]
    assert environment(deployment, "serve-0")["OWN"] == "1"


def test_the_release_is_that_of_the_image_or_one_that_knows_the_flags(tmp_path: Path) -> None:
    image = "docker run -it quay.io/ascend/vllm-ascend:v0.18.0-a3 vllm serve m -tp 16"
    made, _ = round_trip(tmp_path / "1", {"a.sh": image})
    assert made.files.cluster["release"] == "v0.18.0"
    assert made.files.cluster["image"] == "quay.io/ascend/vllm-ascend"
    assert made.files.cluster["platform"] == "a3"
    made, _ = round_trip(tmp_path / "3", {"a.sh": image.replace("v0.18.0", "v0.23.0.post1")})
    assert made.files.cluster["release"] == "v0.23.0.post1"
    made, _ = round_trip(tmp_path / "2", {"a.sh": "vllm serve m --rope-scaling '{\"a\": 1}'"})
    assert made.files.cluster["release"] == "v0.11.0"


def test_nothing_is_half_written_or_overwritten(tmp_path: Path) -> None:
    (script,) = scripts(tmp_path, {"a.sh": "vllm serve m"})
    out = tmp_path / "out"
    run.run([str(script)], run.Options(out=str(out)))
    before = (out / "cluster.yaml").read_text()
    with pytest.raises(UserError) as refused:
        run.run([str(script)], run.Options(out=str(out)))
    assert [problem.message for problem in refused.value.findings] == ["exists already"] * 2
    run.run([str(script)], run.Options(out=str(out), force=True, name="other"))
    assert (out / "cluster.yaml").read_text() == before.replace("name: a", "name: other")
    assert {path.name for path in out.iterdir()} == {"cluster.yaml", "recipe.yaml"}


@pytest.mark.parametrize(
    ("text", "part"),
    [("echo hi", "starts no server"), ("\udcff", "UTF-8")],
)
def test_what_cannot_be_imported_is_said(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "a.sh"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as refused:
        run.import_all([str(path), str(path)], run.Options())
    assert part in str(refused.value)
