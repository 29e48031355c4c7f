"""A cluster of NPUs as one that vLLM runs on the vllm_engine."""

from __future__ import annotations

import difflib
import os
import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from clusters.deployment import Container
from clusters.file import read
from clusters.model import Cluster
from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError
from entrypoints.inputs import recipes
from entrypoints.inputs.recipes import SIDES, Recipe
from tests import ROOT
from validation.rehearsal import vllm_engine
from validation.rehearsal.deployment import RehearsalDeployment, rehearsal_deployment
from validation.rehearsal.parallel_sizes import Machine

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = ROOT / "clusters/examples"
NETWORK = IPv4Network("10.211.0.0/20")
SMALL = Machine(2, 24.0)
# What the entrypoint sets on every platform, and nothing on the CPU reads.
OF_THE_ENTRYPOINT = {"HCCL_IF_IP", "HCCL_SOCKET_IFNAME"}
NPU = re.compile(
    r"ascend|npu|hccl|mooncake|task_queue|cann|expert|quantization|cudagraph|compilation"
    r"|modelscope|additional|async|jemalloc",
    re.IGNORECASE,
)


def on_the_processor(cluster: Cluster, machine: Machine = SMALL) -> RehearsalDeployment:
    return rehearsal_deployment(cluster, NETWORK, vllm_engine.engine(cluster), machine)


def read_text(text: str) -> Cluster:
    found = read.read_text("cluster.yaml", text)
    assert found.cluster, [str(one) for one in found.findings]
    return found.cluster


def example(name: str, *changes: tuple[str, str]) -> Cluster:
    text = (EXAMPLES / f"{name}.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return read_text(text)


def flags(container: Container) -> list[str]:
    assert container.launch
    return list(container.launch.argv[3:])


def after(container: Container, flag: str) -> str:
    words = flags(container)
    return words[words.index(flag) + 1]


# ---- the reference -------------------------------------------------------------------------------


def told(made: RehearsalDeployment) -> str:
    lines = [*made.changes, ""]
    for one in made.deployment.containers:
        assert one.launch
        variables = {k: v for k, v in one.launch.env.items() if k not in OF_THE_ENTRYPOINT}
        lines += [f"{one.name} on {one.node.name}"]
        lines += [f"  {name}={value}" for name, value in sorted(variables.items())]
        lines += [f"  {' '.join(one.launch.argv)}", ""]
    return "\n".join(lines)


def test_the_reference_cluster_becomes_the_committed_one() -> None:
    path = GOLDEN / "pd-3node.txt"
    text = told(on_the_processor(example("pd-3node")))
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text)
    golden = path.read_text() if path.exists() else ""
    lines = (golden.splitlines(keepends=True), text.splitlines(keepends=True))
    difference = "".join(difflib.unified_diff(*lines, f"golden/{path.name}", "translated"))
    assert not difference, f"{difference}\nif it is meant: UPDATE_GOLDEN=1 pytest {__file__}"


# ---- nothing of NPUs is left ---------------------------------------------------------------------


def named(recipe: Recipe) -> str:
    """A cluster file that runs every group of a recipe; `serve` is single where it has both."""
    nodes: list[str] = []
    instances = []
    for role, block in recipe.groups.items():
        if role == "leader" and "single" in recipe.groups:
            continue
        dp, local = block.sizes.dp or 1, block.sizes.dp_local
        count = block.nodes or (dp // local if local else 1)
        own = [f"node{len(nodes) + at}" for at in range(count)]
        nodes += own
        instances.append(f"  {role if role in SIDES else 'serve'}: {{nodes: [{', '.join(own)}]}}")
    addresses = (f"  {name}: 10.0.0.{at + 1}" for at, name in enumerate(nodes))
    pair = all(side in recipe.groups for side in SIDES)
    return "\n".join(
        (
            "name: every",
            f"release: {recipe.releases[0] if recipe.releases else 'v0.13.0rc1'}",
            f"platform: {recipe.platforms[-1] if recipe.platforms else 'a3'}",
            "nic: eth0",
            f"recipe: {recipe.name}",
            "nodes:",
            *addresses,
            "instances:",
            *instances,
            *(["proxy: {node: node0}"] if pair else []),
        )
    )


def remains(made: RehearsalDeployment) -> list[str]:
    """What of NPUs the containers still have, but for what the entrypoint itself sets."""
    found = []
    for one in made.deployment.containers:
        assert one.launch
        own = {k: v for k, v in one.launch.env.items() if k not in OF_THE_ENTRYPOINT}
        words = (*own, *own.values(), *one.launch.argv, *one.env)
        found += [f"{one.name}: {word}" for word in words if NPU.search(word)]
    return found


def by_ray(recipe: Recipe) -> bool:
    return "ray-head" in recipe.groups


RECIPES = [recipes.load(name) for name in recipes.names()]


@pytest.mark.parametrize("recipe", [r for r in RECIPES if not by_ray(r)], ids=lambda r: r.name)
def test_no_name_of_npus_survives_in_a_recipe(recipe: Recipe) -> None:
    assert not remains(on_the_processor(read_text(named(recipe)), Machine(8, 256.0)))


@pytest.mark.parametrize(
    "name", sorted(one.stem for one in EXAMPLES.glob("*.yaml") if one.stem != "ray")
)
def test_no_name_of_npus_survives_in_an_example(name: str) -> None:
    assert not remains(on_the_processor(example(name)))


def test_ray_is_refused_with_its_place() -> None:
    with pytest.raises(UserError, match=r"cluster.yaml:11: instances.serve: .*Ray") as error:
        on_the_processor(example("ray"))
    assert error.value.exit_code == EX_DATAERR


# ---- where things are said -----------------------------------------------------------------------


def test_what_a_cluster_file_adds_by_itself_is_translated_too() -> None:
    one = "[node1]"
    made = on_the_processor(
        example(
            "pd-3node",
            (
                f"prefill: {{nodes: {one}}}",
                f"prefill: {{nodes: {one}, args: {{max_num_seqs: 8, seed: 7}},"
                " env: {OMP_NUM_THREADS: 4, HCCL_BUFFSIZE: 99, MINE: x},"
                " arguments: [--quantization, ascend, --max-model-len, '30000',"
                " --block-size, '128'], overrides: {node1:"
                " {env: {VLLM_ASCEND_ENABLE_NZ: '1', OMP_NUM_THREADS: '9'},"
                " arguments: [--enable-expert-parallel, --uvicorn-log-level, info]}}}",
            ),
        )
    )
    prefill, decode = made.deployment.containers[:2]
    assert after(prefill, "--max-num-seqs") == "8"
    assert after(prefill, "--seed") == "7" != after(decode, "--seed")
    assert after(prefill, "--max-model-len") == "2048"
    assert after(prefill, "--block-size") == "128"
    assert after(prefill, "--uvicorn-log-level") == "info"
    assert prefill.launch
    assert prefill.launch.env["MINE"] == "x"
    assert prefill.launch.env["OMP_NUM_THREADS"] == "1"
    assert not remains(made)
    assert "--max-model-len from 30000 to 2048 of prefill" in "\n".join(made.changes)


def test_nothing_is_said_that_has_not_changed() -> None:
    text = """
name: plain
release: v0.13.0rc1
platform: a3
model: /weights/x
nodes:
  node0: {address: 10.0.0.1, nic: eth0}
sizes: {tp: 1}
served_model_name: x
args: {max-model-len: 1024, max-num-seqs: 4, max-num-batched-tokens: 512, enforce-eager: true,
       api-server-count: 1}
env: {VLLM_CPU_KVCACHE_SPACE: 1, VLLM_CPU_OMP_THREADS_BIND: nobind, OMP_NUM_THREADS: 1,
      HF_HUB_OFFLINE: 1, VLLM_NO_USAGE_STATS: 1}
instances:
  serve: {nodes: [node0]}
"""
    cluster = read_text(text)
    _, said = vllm_engine.engine(cluster).translate(cluster, SMALL)
    assert said == (
        "every server has a tiny model with random weights",
        "flags and variables are those of cpu-0.32.0, not of v0.13.0rc1",
    )


def test_a_transfer_without_two_sides_is_left_out() -> None:
    made = on_the_processor(
        example(
            "single",
            (
                "{nodes: [node0]}",
                "{nodes: [node0], kv_transfer: {kv_connector: AscendStoreConnector,"
                " kv_role: kv_both, kv_connector_extra_config: {backend: mooncake}}}",
            ),
        )
    )
    assert "--kv-transfer-config" not in flags(made.deployment.containers[0])
    assert "left out: AscendStoreConnector (the image has no" in "\n".join(made.changes)


def test_two_instances_on_a_node_have_ports_of_their_own() -> None:
    made = on_the_processor(
        example("pd-3node", ("nodes: [node1]", "nodes: [node2]"), ("node: node1,", "node: node2,"))
    )
    ports = {
        one.launch.env["VLLM_NIXL_SIDE_CHANNEL_PORT"]
        for one in made.deployment.containers
        if one.node.name == "node2" and one.role != "proxy" and one.launch
    }
    assert len(ports) == 2


def test_replicas_on_one_node_have_ports_of_their_own() -> None:
    shared = "prefill: {nodes: [node1, node1], replicas: 2, sizes: {tp: 4, dp: 2}}"
    made = on_the_processor(example("pd-3node", ("prefill: {nodes: [node1]}", shared)))
    prefills = [one for one in made.deployment.containers if one.role == "prefill"]
    assert [one.name.partition("-rehearsal-")[2] for one in prefills] == [
        "prefill-0-0",
        "prefill-1-0",
    ]
    launches = [one.launch for one in prefills if one.launch]
    assert len({one.env["VLLM_NIXL_SIDE_CHANNEL_PORT"] for one in launches}) == 2
    assert len({str(one.ports["api"]) for one in launches}) == 2


def test_sizes_in_arguments_are_sizes() -> None:
    given = "{nodes: [node0, node1], sizes: {tp: 8, dp: 1}, arguments: [--data-parallel-size, '2']}"
    made = on_the_processor(example("multi-node", ("{nodes: [node0, node1]}", given)))
    assert [after(one, "--data-parallel-size") for one in made.deployment.containers] == ["2", "2"]
    assert "sizes from tp 8 dp 2 to tp 1 dp 2" in "\n".join(made.changes)


def test_external_data_parallel_becomes_internal() -> None:
    made = on_the_processor(
        example(
            "multi-node",
            ("{nodes: [node0, node1]}", "{nodes: [node0, node1], role: leader, external: true}"),
        )
    )
    assert [one.role for one in made.deployment.containers] == ["leader", "headless"]
    assert "replaced: a server for each rank with one server" in "\n".join(made.changes)


def test_a_command_of_its_own_stays() -> None:
    made = on_the_processor(example("single", ("[node0]}", "[node0], command: [sleep, '9']}")))
    (one,) = made.deployment.containers
    assert one.command == ("sleep", "9")


def test_a_larger_machine_gets_more_of_the_file() -> None:
    made = on_the_processor(example("pd-3node"), Machine(24, 256.0))
    prefill, decode, headless, _ = made.deployment.containers
    assert (after(prefill, "--tensor-parallel-size"), after(prefill, "--data-parallel-size")) == (
        "4",
        "2",
    )
    assert after(decode, "--data-parallel-size") == "8"
    assert after(headless, "--data-parallel-start-rank") == "4"
    assert "24 cores and 256 GiB" in "\n".join(made.changes)


# ---- what cannot be ------------------------------------------------------------------------------


def test_a_machine_without_the_memory_is_refused_before_anything_starts() -> None:
    with pytest.raises(UserError, match=r"3 servers need .* the machine has 4") as error:
        on_the_processor(example("pd-3node"), Machine(64, 4.0))
    assert error.value.exit_code == EX_UNAVAILABLE


def test_errors_of_the_file_are_said_and_not_translated_away() -> None:
    wrong = example("single", ("{nodes: [node0]}", "{nodes: [node0], args: {max-sequences: 8}}"))
    with pytest.raises(UserError, match=r"cluster.yaml:9: .*max-sequences") as error:
        on_the_processor(wrong)
    assert error.value.exit_code == EX_DATAERR
