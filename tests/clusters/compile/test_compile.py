"""From the cluster file to each container: ranks, leaders, devices, ports, recipes, endpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.compile import deployment, ports
from clusters.deployment import Container, Deployment
from clusters.file import read
from clusters.ranges import Span, overlap
from entrypoints import printing
from entrypoints.inputs import data
from tests import ROOT

EXAMPLES = ROOT / "clusters/examples"
CASES = {case["name"]: case for case in json.loads((ROOT / "tests/cases/serve.json").read_text())}

# The reference's commands: example, what is changed in it, and the case of each container.
REFERENCE = [
    ("single.yaml", {}, ["single-128k"]),
    ("single.yaml", {"single-128k": "throughput-a3"}, ["single-a3-throughput"]),
    ("multi-node.yaml", {}, ["mp-leader", "mp-headless"]),
    (
        "pd-3node.yaml",
        {", kv: 36000": "", "proxy: {node: node1, port: 12347}\n": ""},
        ["pd-prefill", "pd-decode-leader", "pd-decode-headless"],
    ),
]

PAIR = """\
name: pd
release: v0.13.0rc1
platform: a3
nic: eth0
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
nodes: {one: 10.0.0.1, two: 10.0.0.2}
"""


def compiled(text: str) -> Deployment:
    reading = read.read_text("cluster.yaml", text)
    assert reading.cluster is not None, [str(finding) for finding in reading.findings]
    return deployment(reading.cluster)


def errors(made: Deployment) -> list[str]:
    return [str(one) for one in made.findings if one.severity == "error"]


def flag(container: Container, name: str) -> str | None:
    assert container.launch is not None
    argv = list(container.launch.argv)
    return argv[argv.index(name) + 1] if name in argv else None


def as_flags(argv: list[str]) -> dict[str, object]:
    flags: dict[str, object] = {}
    last = ""
    for token in argv:
        if token.startswith("--"):
            flags[last := token] = True
        else:
            flags[last] = json.loads(token) if token.startswith("{") else token
    return flags


@pytest.mark.parametrize(("example", "changes", "cases"), REFERENCE, ids=lambda value: str(value))
def test_the_reference_deployments(example: str, changes: dict[str, str], cases: list[str]) -> None:
    text = (EXAMPLES / example).read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    made = compiled(text)
    assert errors(made) == []
    assert len(made.containers) == len(cases)
    for container, name in zip(made.containers, cases, strict=True):
        assert container.launch is not None
        plan = json.loads(printing.plan_json(container.launch))
        case = CASES[name]
        assert plan["argv"][:3] == ["vllm", "serve", case["model"]]
        assert as_flags(plan["argv"][3:]) == case["flags"]
        assert set(plan["env"]) - set(case["env"]) <= {"VLLM_HOST_IP"}
        assert case["env"].items() <= plan["env"].items()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_compiles_and_is_short(path: Path) -> None:
    made = compiled(path.read_text())
    assert errors(made) == []
    assert all(container.launch for container in made.containers)
    assert len(path.read_text().splitlines()) <= 25


def test_a_ray_cluster_has_a_head_and_workers() -> None:
    head, worker = compiled((EXAMPLES / "ray.yaml").read_text()).containers
    assert (head.role, worker.role) == ("ray-head", "ray-worker")
    assert worker.env["LEADER_IP"] == head.env["LOCAL_IP"]
    assert head.launch is not None
    assert head.launch.npus == 32


def test_only_what_the_file_lays_over_travels() -> None:
    made = compiled(
        PAIR + "instances:\n  prefill: {nodes: [one]}\n  decode: {nodes: [two],"
        " sizes: {dp: 4}, args: {max-num-seqs: 9}}\n"
    )
    prefill, decode = made.containers
    assert json.loads(prefill.env["RECIPE"]) == {
        "extends": "qwen3-235b-a22b-w8a8/pd-3node-a3",
        "roles": {"decode": {"sizes": {"dp": 4}}},
    }
    assert flag(decode, "--max-num-seqs") == "9"
    sides = {flag(one, "--kv-transfer-config") for one in made.containers}
    blocks = [json.loads(side or "")["kv_connector_extra_config"] for side in sides]
    assert blocks[0]["decode"] == blocks[1]["decode"] == {"dp_size": 4, "tp_size": 4}


def test_replicas_on_one_host_share_its_devices_and_move_their_ports() -> None:
    made = compiled(
        PAIR + "instances:\n  prefill: {nodes: [one, one], replicas: 2,"
        " sizes: {dp: 1}}\n  decode: {nodes: [two], sizes: {dp: 4}}\nproxy: {node: two}\n"
    )
    first, second, _, proxy = made.containers
    assert (first.devices, second.devices) == (tuple(range(8)), tuple(range(8, 16)))
    assert {first.env["ASCEND_RT_VISIBLE_DEVICES"], second.env["ASCEND_RT_VISIBLE_DEVICES"]} == {
        "0,1,2,3,4,5,6,7"
    }
    assert first.launch is not None
    assert second.launch is not None
    mine, other = first.ports, second.ports
    assert not any(overlap(mine[name], other[name]) for name in ("api", "kv"))
    assert first.env["ENGINE_ID"] != second.env["ENGINE_ID"]
    assert proxy.env["PREFILL_ENDPOINTS"] == "10.0.0.1:8000,10.0.0.1:8001"
    assert errors(made) == []


def test_a_port_that_is_written_stays() -> None:
    made = compiled(
        PAIR + "instances:\n  prefill: {nodes: [one], sizes: {dp: 1}}\n"
        "  decode: {nodes: [one], sizes: {dp: 2}, ports: {api: 8000}}\n"
    )
    assert [one.env.get("PORT") for one in made.containers] == [None, "8000"]


def test_external_data_parallel_is_a_container_a_rank() -> None:
    made = compiled(
        PAIR + "instances:\n  prefill: {nodes: [one]}\n  decode: {nodes: [two],"
        " external: true, sizes: {tp: 4, dp: 4}}\nproxy: {node: one}\n"
    )
    ranks = made.groups[1].containers
    assert [one.env["DP_RANK"] for one in ranks] == ["0", "1", "2", "3"]
    assert [one.devices[0] for one in ranks] == [0, 4, 8, 12]
    assert [port for _, port in made.groups[1].endpoints] == [8000, 8001, 8002, 8003]
    assert errors(made) == []


def test_overrides_are_one_nodes() -> None:
    made = compiled(
        PAIR + "instances:\n  prefill: {nodes: [one]}\n  decode: {nodes: [two],"
        " sizes: {dp: 4}, overrides: {two: {env: {HCCL_BUFFSIZE: 7},"
        " arguments: [--seed, 3]}}}\n"
    )
    prefill, decode = made.containers
    assert decode.launch is not None
    assert decode.launch.env["HCCL_BUFFSIZE"] == "7"
    assert (flag(decode, "--seed"), flag(prefill, "--seed")) == ("3", "1024")


def test_preloads_are_the_files_and_not_this_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libjemalloc.so").write_text("")
    (tmp_path / "defaults.yaml").write_text(
        f"{{release: v0.13.0rc1, jemalloc: [{tmp_path}/libjemalloc.so]}}"
    )
    path_of = data.path_of
    monkeypatch.setattr(
        data,
        "path_of",
        lambda *parts: str(tmp_path / parts[0]) if parts == ("defaults.yaml",) else path_of(*parts),
    )
    made = compiled(
        PAIR + "instances:\n  prefill: {nodes: [one], env: {LD_PRELOAD: '/a.so:$LD_PRELOAD'}}\n"
        "  decode: {nodes: [two], sizes: {dp: 4}}\n"
    )
    prefill, decode = made.containers
    assert prefill.launch is not None
    assert decode.launch is not None
    assert prefill.launch.env["LD_PRELOAD"] == "/a.so:$LD_PRELOAD"
    assert "LD_PRELOAD" not in decode.launch.env


def test_a_command_of_ones_own_is_not_planned() -> None:
    made = compiled(
        PAIR + "instances:\n  store: {role: single, nodes: [one],"
        " command: [mooncake_master, --port, 5]}\n"
    )
    (store,) = made.containers
    assert store.command == ("mooncake_master", "--port", "5")
    assert store.launch is None
    assert errors(made) == []


def test_a_model_without_a_recipe() -> None:
    made = compiled(
        "name: tiny\nrelease: v0.13.0rc1\nplatform: a2\nmodel: m\nnic: eth0\n"
        "nodes: {one: 10.0.0.1}\ninstances: {serve: {nodes: [one], sizes: {tp: 8}}}\n"
    )
    (serve,) = made.containers
    assert serve.role == "single"
    assert serve.launch is not None
    assert serve.launch.argv[:3] == ("vllm", "serve", "m")


def test_what_an_entrypoint_refuses_is_found_in_the_file() -> None:
    text = (
        PAIR + "instances:\n  prefill: {nodes: [one]}\n  decode:\n    nodes: [two]\n"
        "    sizes: {dp: 4}\n    args:\n      no-such-flag: 1\n"
    )
    (found,) = [one for one in compiled(text).findings if one.severity == "error"]
    assert (found.code, found.line) == (
        "unknown-flag",
        13,
    )


SPANS = st.tuples(st.integers(1, 300), st.integers(0, 20)).map(lambda s: (s[0], s[0] + s[1]))


class Listening:
    def __init__(self, host: str, ports: dict[str, Span]) -> None:
        self.host, self.ports = host, ports


@given(
    st.lists(
        st.lists(
            st.builds(
                Listening,
                st.sampled_from("abc"),
                st.fixed_dictionaries({"api": SPANS, "kv": SPANS}),
            ),
            min_size=1,
            max_size=1,
        ),
        max_size=6,
    )
)
def test_moved_ports_never_meet(groups: list[list[Listening]]) -> None:
    taken = ports.PortAllocator()
    seen: dict[str, list[Span]] = {}
    for group in groups:
        moves = taken.reassign(group, ())
        for one in group:
            one.ports = {
                name: (moves.get(name, span[0]), moves.get(name, span[0]) + span[1] - span[0])
                for name, span in one.ports.items()
            }
            for span in one.ports.values():
                assert not any(overlap(span, other) for other in seen.get(one.host, []))
                seen.setdefault(one.host, []).append(span)
        taken.add(group)
