"""A cluster file as records, and each wrong thing refused at its line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.file import read
from clusters.model import Cluster, Instance, Kubernetes, Node, Override, Proxy, Run, Secret, Volume
from clusters.show import check
from common.errors import ERROR, WARNING, Finding, UserError

EXAMPLES = sorted(Path("clusters/examples").glob("*.yaml"))

DOCKER = """\
name: qwen3
platform: a3
nic: eth0
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
weights: /data/weights
nodes:
  node1: 10.0.0.11
  node2: 10.0.0.21
  node3: {address: 10.0.0.22, nic: eth1}
instances:
  prefill: {nodes: [node1]}
  decode: {nodes: [node2, node3]}
proxy: {node: node1}
"""
KUBERNETES = """\
name: qwen3
platform: a3
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
instances:
  prefill: {nodes: 1, replicas: 2}
  decode: {nodes: 2}
proxy: {replicas: 2}
"""


def errors(text: str) -> list[Finding]:
    return [one for one in read.read_text("f.yaml", text).findings if one.severity == ERROR]


def cluster(text: str) -> Cluster:
    found = read.read_text("f.yaml", text)
    assert found.cluster is not None, found.findings
    return found.cluster


# ---- what a file says ----------------------------------------------------------------------------

ALL = """\
name: all
release: v0.13.0
image: {a2: registry.example.com/vllm:a2, a3: "registry.example.com:5000/vllm@sha256:DIGEST"}
os: openeuler24.03
platform: a3
nic: eth0
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
model: /weights/m
served_model_name: m
weights: [/data, {path: /cache, mount: /var/cache, read_only: false}]
secrets: {VLLM_API_KEY: {env: KEY}, HF_TOKEN: {file: /run/token}}
sizes: {tp: 4}
concurrency: 64
features: {flashcomm1: true}
env: {A: 0.90, B: ~}
args: {seed: 1}
kv_transfer: {kv_port: 30000}
ports: {kv: 36000, proxy: 80}
run: {restart: no, shm: 32g, preflight: off, supervise: false, drain_timeout: 5, wait_timeout: 0}
kubernetes: {namespace: n, node_selector: {a: b}, pull_secrets: [p], host_network: true,
             pod: {x: 1}}
options: [--ulimit, memlock=-1, 0.90]
nodes:
  n1: 10.0.0.1
  n2: {address: 10.0.0.2, nic: eth1, platform: a2, devices: "0,2,4-5", context: ssh://root@n2}
instances:
  many:
    role: decode
    nodes: [n1, n2, n1, n2]
    replicas: 2
    devices: [0, 2]
    external: true
    ports: {api: 8001}
    arguments: [--max-num-seqs, 96]
    args: {seed: ~}
    overrides: {n2: {env: {X: 010, JEMALLOC: 0}, arguments: [--seed, 7]}}
  prefill: {nodes: [n2], command: [sleep, 1.0]}
proxy: {node: n1, kind: example, port: 80, env: {Y: on}, arguments: [--x, 1]}
""".replace("DIGEST", "0" * 64)


def test_every_key_has_its_place() -> None:
    found = cluster(ALL)
    assert found == Cluster(
        file="f.yaml",
        name="all",
        release="v0.13.0",
        image={
            "a2": "registry.example.com/vllm:a2",
            "a3": "registry.example.com:5000/vllm@sha256:" + "0" * 64,
        },
        os="openeuler24.03",
        recipe="qwen3-235b-a22b-w8a8/pd-3node-a3",
        model="/weights/m",
        served_model_name="m",
        nodes={
            "n1": Node("n1", "10.0.0.1", "eth0", "a3"),
            "n2": Node("n2", "10.0.0.2", "eth1", "a2", (0, 2, 4, 5), "ssh://root@n2"),
        },
        instances={
            "many": Instance(
                name="many",
                role="decode",
                nodes=("n1", "n2", "n1", "n2"),
                each=2,
                replicas=2,
                devices=(0, 2),
                external=True,
                settings={"args": {"seed": None}},
                ports={"api": 8001},
                arguments=("--max-num-seqs", "96"),
                overrides={"n2": Override({"X": "010", "JEMALLOC": "0"}, ("--seed", "7"))},
            ),
            "prefill": Instance("prefill", "prefill", ("n2",), 1, command=("sleep", "1.0")),
        },
        proxy=Proxy("n1", "example", 1, 80, {"Y": "on"}, ("--x", "1")),
        settings={
            "sizes": {"tp": 4},
            "concurrency": 64,
            "features": {"flashcomm1": True},
            "env": {"A": "0.90", "B": None},
            "args": {"seed": 1},
            "kv_transfer": {"kv_port": 30000},
        },
        ports={"kv": 36000, "proxy": 80},
        volumes=(Volume("/data", "/data"), Volume("/var/cache", "/cache", read_only=False)),
        secrets=(Secret("VLLM_API_KEY", env="KEY"), Secret("HF_TOKEN", file="/run/token")),
        run=Run("no", 32, "off", False, 5, 0),
        kubernetes=Kubernetes("n", "huawei.com/Ascend910", {"a": "b"}, ("p",), True, {"x": 1}),
        options=("--ulimit", "memlock=-1", "0.90"),
        lines=found.lines,
    )
    assert found.line(("instances", "many", "overrides", "n2", "env", "X")) == 36


def test_defaults() -> None:
    found = cluster("name: x\nmodel: m\nplatform: a2\ninstances: {serve: {nodes: 1}}")
    assert (found.release, found.image, found.os) == ("v0.13.0rc1", "vllm-ascend", "ubuntu22.04")
    assert (found.recipe, found.proxy, found.volumes, found.run) == (None, None, (), Run())


def test_nodes_that_kubernetes_chooses() -> None:
    found = cluster(KUBERNETES)
    assert list(found.nodes) == ["prefill-0-0", "prefill-1-0", "decode-0-0", "decode-0-1"]
    assert found.nodes["decode-0-1"] == Node("decode-0-1", None, None, "a3", placed=True)
    assert found.instances["prefill"].nodes == ("prefill-0-0", "prefill-1-0")
    assert found.proxy == Proxy("", replicas=2)


# ---- what is wrong -------------------------------------------------------------------------------

# What to replace in the file, by what, the line, where, and part of the message or the fix.
WRONG: list[tuple[str, str, str, int, str, str]] = [
    (DOCKER, "name: qwen3", "name: Qwen_3", 1, "name", "DNS label"),
    (DOCKER, "name: qwen3\n", "", 1, "name", "is missing"),
    (DOCKER, "nic: eth0\n", "nik: eth0\n", 3, "nik", "did you mean nic?"),
    (DOCKER, "nic: eth0\n", "nic: bond0/eth0\n", 3, "nic", "such as eth0"),
    (DOCKER, "nic: eth0\n", "nic: eth0\nrelease: v0.13\n", 4, "release", "did you mean v0.13.0"),
    (DOCKER, "nic: eth0\n", "nic: eth0\nos: ubuntu\n", 4, "os", "did you mean ubuntu22.04"),
    (DOCKER, "nic: eth0\n", "nic: eth0\nmodel: -x\n", 4, "model", "is not a name"),
    (DOCKER, "nic: eth0\n", "nic: eth0\nimage: a b\n", 4, "image", "is not an image"),
    (DOCKER, "nic: eth0\n", "image: {a2: x/y}\n", 3, "image", "no image for platform a3"),
    (DOCKER, "nic: eth0\n", "image: {a3: x/y, a9: x/z}\n", 3, "image.a9", "unknown"),
    (DOCKER, "platform: a3", "platform: A3", 2, "platform", "known: a2, a3"),
    (DOCKER, "platform: a3\n", "", 1, "platform", "is missing for node1, node2, node3"),
    (KUBERNETES, "platform: a3\n", "", 1, "platform", "is missing"),
    (DOCKER, "nic: eth1", "platform: a4", 9, "nodes.node3.platform", "'a4' is unknown"),
    (DOCKER, "recipe: qwen3-235b-a22b-w8a8/pd-3node-a3\n", "", 1, "the file", "no recipe"),
    (DOCKER, "pd-3node-a3", "pd-3node", 4, "recipe", "did you mean"),
    (DOCKER, "qwen3-235b-a22b-w8a8/pd-3node-a3", "./no.yaml", 4, "recipe", "No such file"),
    (DOCKER, "qwen3-235b-a22b-w8a8/pd-3node-a3", "[a]", 4, "recipe", "a list; give text or a map"),
    (DOCKER, "/data/weights", "data", 5, "weights", "absolute path"),
    (DOCKER, "/data/weights", "{path: /x, claim: y, mount: /y}", 5, "weights", "path and claim"),
    (DOCKER, "/data/weights", "{mount: /y}", 5, "weights", "give one of path, claim"),
    (KUBERNETES, "recipe", "weights: {claim: y}\nrecipe", 3, "weights.mount", "is missing"),
    (DOCKER, "/data/weights", "{claim: y, mount: /y}", 5, "weights.claim", "is for Kubernetes"),
    (
        DOCKER,
        "/data/weights",
        "[/a, {path: /x, muont: /y}]",
        5,
        "weights[1].muont",
        "did you mean mount",
    ),
    (
        DOCKER,
        "/data/weights",
        "\n- /a\n- {path: /b, mount: /a}",
        7,
        "weights[1]",
        "/a is mounted twice",
    ),
    (DOCKER, "10.0.0.11", "10.0.0.256", 7, "nodes.node1", "not an IPv4 address"),
    (DOCKER, "10.0.0.11", "10.0.0.011", 7, "nodes.node1", "not an IPv4 address"),
    (DOCKER, "10.0.0.11", "fe80::1", 7, "nodes.node1", "not an IPv4 address"),
    (DOCKER, "10.0.0.11", '"10.0.0.1\\n"', 7, "nodes.node1", "not an IPv4 address"),
    (DOCKER, "10.0.0.11", "{nic: eth0}", 7, "nodes.node1.address", "is missing"),
    (DOCKER, "10.0.0.11", "[10.0.0.1]", 7, "nodes.node1", "is a list; give text or a mapping"),
    (DOCKER, "10.0.0.21", "10.0.0.11", 8, "nodes.node2", "same address as node1: 10.0.0.11"),
    (DOCKER, "nic: eth0\n", "nic: eth0\nnic: eth1\n", 4, "nic", "given twice, first at line 3"),
    (DOCKER, "nic: eth1", "devices: 0-", 9, "nodes.node3.devices", "such as 0-7"),
    (
        DOCKER,
        "nic: eth1",
        "devices: 7-0",
        9,
        "nodes.node3.devices",
        "range that ends before it starts",
    ),
    (DOCKER, "nic: eth1", "devices: '0-3,2'", 9, "nodes.node3.devices", "a device twice"),
    (DOCKER, "nic: eth1", "devices: 0-16", 9, "nodes.node3.devices", "no device 16: its platform"),
    (DOCKER, "nic: eth1", "devices: [0, x]", 9, "nodes.node3.devices[1]", "whole number"),
    (DOCKER, "[node1]", "[node4]", 11, "instances.prefill.nodes[0]", "did you mean node3 or"),
    (DOCKER, "[node1]", "[]", 11, "instances.prefill.nodes", "is empty"),
    (DOCKER, "[node1]", "2", 11, "instances.prefill.nodes", "nodes: names the nodes"),
    (DOCKER, "[node1]", "node1", 11, "instances.prefill.nodes", "give a list or a whole number"),
    (DOCKER, "{nodes: [node1]}", "{}", 11, "instances.prefill.nodes", "is missing"),
    (DOCKER, "{nodes: [node1]}", "", 11, "instances.prefill", "is empty; give a mapping"),
    (DOCKER, "  prefill: {", "  first: {", 11, "instances.first.role", "'first' is not a role"),
    (DOCKER, "[node1]", "[node1], role: lead", 11, "instances.prefill.role", "did you mean leader"),
    (DOCKER, "[node1]", "[node1], replicas: 0", 11, "instances.prefill.replicas", "1 to 65535"),
    (DOCKER, "node3]", "node3], replicas: 3", 12, "instances.decode.nodes", "into 3 replicas"),
    (DOCKER, "node3]", "node3], devices: 0-16", 12, "instances.decode.devices", "node2 has 16"),
    (DOCKER, "node3]", "node3], ports: {api: 0}", 12, "instances.decode.ports.api", "1 to 65535"),
    (DOCKER, "node3]", "node3], ports: {proxy: 1}", 12, "instances.decode.ports.proxy", "unknown"),
    (
        DOCKER,
        "node3]",
        "node3], overrides: {node1: {}}",
        12,
        "instances.decode.overrides.node1",
        "not a node of this instance",
    ),
    (
        DOCKER,
        "node3]",
        "node3], overrides: {node2: {env: {LEADER_IP: x}}}",
        12,
        "instances.decode.overrides.node2.env.LEADER_IP",
        "which this file sets",
    ),
    (DOCKER, "node3]", "node3], size: {tp: 1}", 12, "instances.decode.size", "mean sizes"),
    (DOCKER, "node3]", "node3], sizes: {tp: 0}", 12, "instances.decode.sizes.tp", "1 to 65535"),
    (DOCKER, "node3]", "node3], sizes: {tpp: 1}", 12, "instances.decode.sizes.tpp", "mean tp"),
    (
        DOCKER,
        "node3]",
        "node3], args:\n   {seed: 1,\n   headless: true}",
        14,
        "instances.decode.args.headless",
        "belongs to one node",
    ),
    (DOCKER, "node3]", "node3], env: {PORT: 1}", 12, "instances.decode.env.PORT", "entrypoint"),
    (
        DOCKER,
        "node3]",
        "node3], kv_transfer: {kv_connector_extra_config: {prefill: {}}}",
        12,
        "instances.decode.kv_transfer.kv_connector_extra_config.prefill",
        "written by hand",
    ),
    (DOCKER, "nic: eth0\n", "args: {port: 1}\n", 3, "args.port", "has its own key"),
    (DOCKER, "nic: eth0\n", "env: {X: [1]}\n", 3, "env.X", "is a list"),
    (DOCKER, "{node: node1}", "{}", 13, "proxy.node", "is missing"),
    (DOCKER, "{node: node1}", "{node: x}", 13, "proxy.node", "'x' is not a node"),
    (DOCKER, "{node: node1}", "{node: node1, kind: nginx}", 13, "proxy.kind", "vllm-router"),
    (DOCKER, "{node: node1}", "{node: node1, replicas: 2}", 13, "proxy.replicas", "Kubernetes"),
    (
        DOCKER,
        "{node: node1}",
        "{node: node1, port: 1}\nports: {proxy: 2}",
        13,
        "proxy.port",
        "is 2",
    ),
    (
        DOCKER,
        "{node: node1}",
        "{node: node1, env: {ROLE: x}}",
        13,
        "proxy.env.ROLE",
        "this file sets",
    ),
    (DOCKER, "nic: eth0\n", "secrets: {A: {}}\n", 3, "secrets.A", "give one of env, file, secret"),
    (DOCKER, "nic: eth0\n", "secrets: {A: {env: B, file: /c}}\n", 3, "secrets.A", "env and file"),
    (DOCKER, "nic: eth0\n", "secrets: {A: secret}\n", 3, "secrets.A", "give a mapping"),
    (DOCKER, "nic: eth0\n", "secrets: {A: }\n", 3, "secrets.A", "is empty; give a mapping"),
    (DOCKER, "nic: eth0\n", "secrets: {A-B: {env: C}}\n", 3, "secrets.A-B", "variable's name"),
    (DOCKER, "nic: eth0\n", "secrets: {ROLE: {env: C}}\n", 3, "secrets.ROLE", "entrypoint"),
    (
        DOCKER,
        "nic: eth0\n",
        "secrets: {A: {secret: s, key: k}}\n",
        3,
        "secrets.A.secret",
        "Kubernetes",
    ),
    (DOCKER, "nic: eth0\n", "secrets: {A: {env: C}}\nenv: {A: x}\n", 4, "env.A", "is a secret"),
    (KUBERNETES, "recipe", "secrets: {A: {secret: s}}\nrecipe", 3, "secrets.A.key", "is missing"),
    (DOCKER, "nic: eth0\n", "run: {restart: maybe}\n", 3, "run.restart", "on-failure"),
    (DOCKER, "nic: eth0\n", "run: {shm: 16}\n", 3, "run.shm", "give text"),
    (DOCKER, "nic: eth0\n", "run: {shm: 16m}\n", 3, "run.shm", "such as 16g"),
    (DOCKER, "nic: eth0\n", "run: {supervise: on}\n", 3, "run.supervise", "give true or false"),
    (DOCKER, "nic: eth0\n", "run: {drain_timeout: -1}\n", 3, "run.drain_timeout", "0 to 604800"),
    (KUBERNETES, "nodes: 2", "nodes: [a]", 6, "instances.decode.nodes", "the file has no nodes:"),
    (KUBERNETES, "nodes: 2", "nodes: 20000", 6, "instances.decode.nodes", "20000 nodes"),
    (KUBERNETES, "nodes: 2", "nodes: 2, devices: 0-16", 6, "instances.decode.devices", "has 16"),
    (KUBERNETES, "{replicas: 2}", "{node: a}", 7, "proxy.node", "the file has no nodes:"),
    (KUBERNETES, "{nodes: 1, replicas: 2}", "[1", 6, "the file", "expected ',' or ']'"),
]


@pytest.mark.parametrize(("base", "old", "new", "line", "where", "said"), WRONG)
def test_a_wrong_thing_is_refused_at_its_line(
    base: str, old: str, new: str, line: int, where: str, said: str
) -> None:
    assert errors(base) == []
    assert base.count(old) == 1
    found = errors(base.replace(old, new))
    assert [(one.line, one.where) for one in found] == [(line, where)]
    assert said in str(found[0])


def test_all_problems_are_told_at_once_and_in_order() -> None:
    text = DOCKER.replace("eth0", "/").replace("10.0.0.11", "x").replace("[node1]", "[node9]")
    found = errors(text.replace("{node: node1}", "{nodes: node1}") + "more: 1\n")
    assert [one.line for one in found] == [3, 7, 11, 13, 13, 14]


def test_a_wrong_node_is_there_nevertheless() -> None:
    assert [one.where for one in errors(DOCKER.replace("10.0.0.11", "x"))] == ["nodes.node1"]


def test_an_unused_node_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(DOCKER.replace("instances:", "  node4: 10.0.0.9\ninstances:"))
    said: list[str] = []
    read.load(file, said.append)
    assert said == [
        f"{file}:10: warning: nodes.node4: nothing runs on it;"
        " name it in an instance, or remove it [unused-node]"
    ]
    assert read.read(file).findings[0].severity == WARNING


def test_a_variable_with_a_dash_is_a_warning_for_one_node_and_refused_elsewhere() -> None:
    text = DOCKER.replace(
        "{nodes: [node1]}",
        "{nodes: [node1], overrides: {node1: {env: {VLLM-X_Y: 1, ' -z': 1}}}, env: {A-B: 1}}",
    )
    findings = read.read_text("f.yaml", text).findings
    told = {(one.severity, one.where.rpartition(".")[2]): one for one in findings}
    assert set(told) == {(WARNING, "VLLM-X_Y"), (ERROR, " -z"), (ERROR, "A-B")}
    assert "write VLLM_X_Y" in told[WARNING, "VLLM-X_Y"].fix


def test_load_raises_everything_as_a_user_error(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(DOCKER.replace("eth0", "/").replace("10.0.0.11", "x"))
    with pytest.raises(UserError) as raised:
        read.load(file)
    assert raised.value.exit_code == 65
    assert [one.line for one in raised.value.findings] == [3, 7]
    assert str(raised.value).startswith(f"{file}:3: error: nic: '/' is not an interface name; ")


@pytest.mark.parametrize("data", [b"\xff", None])
def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "c.yaml"
    if data is not None:
        file.write_bytes(data)
    found = read.read(file)
    assert found.cluster is None
    assert [one.code for one in found.findings] == ["unreadable-file"]


# ---- recipes -------------------------------------------------------------------------------------

RECIPE = """\
model: m
roles:
  prefill:
    env: {A: 0.90}
  decode: {sizes: {tp: 2}}
"""


@pytest.fixture
def beside(tmp_path: Path) -> Callable[[str], read.Reading]:
    """Reads a cluster file whose recipe, with this content, is beside it."""

    def with_recipe(content: str) -> read.Reading:
        file = tmp_path / "c.yaml"
        file.write_text(DOCKER.replace("qwen3-235b-a22b-w8a8/pd-3node-a3", "./r.yaml"))
        (tmp_path / "r.yaml").write_text(content)
        return read.read(file)

    return with_recipe


def test_a_recipe_beside_the_file_is_its_content(beside: Callable[[str], read.Reading]) -> None:
    found = beside(RECIPE).cluster
    assert found is not None
    assert found.recipe == {
        "model": "m",
        "roles": {"prefill": {"env": {"A": "0.90"}}, "decode": {"sizes": {"tp": 2}}},
    }


@pytest.mark.parametrize(
    ("old", "new", "line", "where"),
    [
        ("tp: 2", "tp: 0", 5, "roles.decode.sizes.tp"),
        ("A: 0.90", "'A-B': 1", 4, "roles.prefill.env.A-B"),
        ("model: m", "modle: m\nmodel: m", 1, "modle"),
        ("model: m\n", "", 1, "model"),
        ("  decode:", "  decod:", 5, "roles.decod"),
        ("{tp: 2}", "{tp: 2", 6, "the file"),
        (RECIPE, "- a\n", 1, "the file"),
        (RECIPE, "qwen3-235b-a22b/ray\n", 1, "the file"),
        (RECIPE, "\nroles: {single: }\n", 1, "model"),
        ("model: m", "model: m\nmodel: n", 2, "model"),
        ("model: m", "model: m\nextends: none", 2, "extends"),
    ],
)
def test_a_wrong_recipe_is_told_in_its_own_file(
    beside: Callable[[str], read.Reading],
    tmp_path: Path,
    old: str,
    new: str,
    line: int,
    where: str,
) -> None:
    found = beside(RECIPE.replace(old, new)).findings
    assert [(one.file, one.line, one.where) for one in found] == [
        (str(tmp_path / "r.yaml"), line, where)
    ]


def test_a_recipe_within_the_file_is_told_at_its_lines() -> None:
    inner = "recipe:\n  " + RECIPE.replace("\n", "\n  ").rstrip() + "\n"
    text = DOCKER.replace("recipe: qwen3-235b-a22b-w8a8/pd-3node-a3\n", inner)
    recipe: Any = cluster(text).recipe
    assert recipe["roles"]["prefill"]["env"] == {"A": "0.90"}
    found = errors(text.replace("tp: 2", "tp: x"))
    assert [(one.line, one.where) for one in found] == [(9, "recipe.roles.decode.sizes.tp")]


# ---- examples, mutations, time -------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_have_no_problem(path: Path) -> None:
    assert not check.check(path).failed


def test_the_report_counts(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("name: x\nmodel: m\nplatform: a2\ninstances: {serve: {nodes: 1}}\n")
    found = check.check(file)
    assert [str(line) for line in found.lines()] == [f"{file}: 1 node, 1 container, no findings"]
    file.write_text("name: x\n")
    assert str(list(check.check(file).lines())[-1]) == f"{file}: 3 errors"


WORDS = st.sampled_from(
    ["", "x", "node1", "-1", "0-3", "9-0", "10.0.0.11", "/w", "decode", "a\0b", "é" * 70, "<<"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each mapping or list within a value, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutations_end_in_findings_and_never_in_a_traceback(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([ALL, *(path.read_text() for path in EXAMPLES)]))
    value = yaml.safe_load(text)
    for _ in range(data.draw(st.integers(1, 3))):
        at, key = data.draw(st.sampled_from(list(places(value))))
        what = data.draw(st.sampled_from(["set", "remove", "add", "rename"]))
        if what == "set":
            at[key] = data.draw(VALUES)
        elif what == "remove":
            del at[key]
        elif isinstance(at, list):
            at.append(data.draw(VALUES))
        else:
            at[data.draw(WORDS)] = at.pop(key) if what == "rename" else data.draw(VALUES)
        if not any(True for _ in places(value)):
            break
    found = read.read_text("f.yaml", yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
    assert (found.cluster is None) == any(one.severity == ERROR for one in found.findings)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([path.read_text() for path in EXAMPLES]), st.data())
def test_slips_of_the_keyboard_never_end_in_a_traceback(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 5))
    typed = data.draw(st.text("{}[]:,-&*!|>'\"%@`#~? \n\tab0.<", max_size=4))
    read.read_text("f.yaml", text[:at] + typed + text[at + gone :])


def test_a_thousand_nodes_take_little_time() -> None:
    nodes = "".join(
        f"  n{i}: {{address: 10.0.{i // 250}.{i % 250 + 1}, devices: 0-15, context: n{i}}}\n"
        for i in range(1000)
    )
    names = ", ".join(f"n{i}" for i in range(1000))
    text = (
        DOCKER.partition("nodes:")[0] + f"nodes:\n{nodes}instances:\n  decode: {{nodes: [{names}]}}"
    )
    started = time.process_time()
    assert len(cluster(text).nodes) == 1000
    assert time.process_time() - started < 0.5
