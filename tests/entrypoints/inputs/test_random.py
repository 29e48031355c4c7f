"""10,000 random environments: a valid plan or a list of findings, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrypoints import printing
from entrypoints.findings import Refused
from entrypoints.inputs import data, recipes
from entrypoints.inputs.arguments import is_flag
from entrypoints.inputs.roles import ROLES
from entrypoints.inputs.settings import VARIABLES
from entrypoints.launch.model import Launch
from entrypoints.launch.network import Host
from entrypoints.plan import plan

DEVICES = {"a2": 8, "a3": 16}
HOST = Host(lambda: [("eth0", "10.0.0.1")], lambda _: "10.0.0.1")

SIZE = st.sampled_from(["1", "2", "3", "4", "8", "16", "32"])
PORT = st.sampled_from(["1", "8000", "8001", "13389", "20000", "30000", "36000", "65535"])
ENDPOINTS = st.sampled_from(["10.0.0.11:8000", "10.0.0.12:8000,h:8001", "http://h:1", "h"])
LIKELY = {
    "RECIPE": st.sampled_from([*recipes.names(), ""]),
    "MODEL": st.sampled_from(["", "/weights/m", "Qwen/Qwen3-235B-A22B"]),
    "TP_SIZE": SIZE,
    "PP_SIZE": SIZE,
    "PCP_SIZE": SIZE,
    "DP_SIZE": SIZE,
    "DP_SIZE_LOCAL": SIZE,
    "NODES": SIZE,
    "NODE_RANK": st.sampled_from(["0", "1", "2", "7"]),
    "DP_RANK": st.sampled_from(["0", "1", "5"]),
    "GROUP": st.sampled_from(["leader", "prefill", "decode"]),
    "LEADER_IP": st.sampled_from(["10.0.0.9", "leader-0.group", "10.0.0.1"]),
    "LOCAL_IP": st.just("10.0.0.1"),
    "NIC": st.just("eth0"),
    "PORT": PORT,
    "DP_RPC_PORT": PORT,
    "KV_PORT": PORT,
    "RAY_PORT": PORT,
    "PREFILL_ENDPOINTS": ENDPOINTS,
    "DECODE_ENDPOINTS": ENDPOINTS,
    "PROXY": st.sampled_from(["vllm-router", "example"]),
    "ASCEND_PLATFORM": st.sampled_from(["a2", "a3"]),
    "VLLM_ASCEND_RELEASE": st.sampled_from(data.names("releases")),
    "ASCEND_RT_VISIBLE_DEVICES": st.sampled_from(["0", "0,1,2,3", "8,9,10,11,12,13,14,15"]),
    "LWS_WORKER_INDEX": st.sampled_from(["0", "1"]),
    "LWS_GROUP_SIZE": SIZE,
    "DRAIN_TIMEOUT": st.just("20"),
    "CONCURRENCY": SIZE,
}
NAMES = sorted({*LIKELY, *(v.name for v in VARIABLES), "HCCL_BUFFSIZE", "VLLM_PORT"})
ANY = st.one_of(st.text(max_size=5), st.sampled_from(["0", "-1", "$X", "{}", "tcp://1.2.3.4:1"]))
TOKENS = st.sampled_from(
    [
        ("--max-num-seqs", "4"),
        ("-tp", "2"),
        ("--port=9000",),
        ("--kv-transfer-config.kv_port", "36000"),
        ("--data-parallel-start-rank", "1"),
        ("--enforce-eager",),
        ("--no-such-flag",),
        ("stray",),
        ("--additional-config", "{"),
    ]
)


PD = "qwen3-235b-a22b-w8a8/pd-3node-a3"
WORKS: tuple[dict[str, str], ...] = (
    {"ROLE": "single", "MODEL": "/weights/m"},
    {"ROLE": "single", "RECIPE": "qwen3-235b-a22b-w8a8/throughput-a3"},
    {"ROLE": "leader", "RECIPE": "qwen3-235b-a22b/multi-node"},
    {
        "ROLE": "headless",
        "RECIPE": "qwen3-235b-a22b/multi-node",
        "NODE_RANK": "1",
        "LEADER_IP": "10.0.0.9",
    },
    {"ROLE": "prefill", "RECIPE": PD},
    {"ROLE": "decode", "RECIPE": PD},
    {"ROLE": "decode", "RECIPE": PD, "DP_RANK": "5", "LEADER_IP": "10.0.0.9"},
    {
        "ROLE": "headless",
        "RECIPE": PD,
        "GROUP": "decode",
        "NODE_RANK": "1",
        "LEADER_IP": "10.0.0.9",
    },
    {"ROLE": "proxy", "PREFILL_ENDPOINTS": "10.0.0.1:8000", "DECODE_ENDPOINTS": "10.0.0.2:8000"},
    {"ROLE": "ray-head", "RECIPE": "qwen3-235b-a22b/ray"},
    {"ROLE": "ray-worker", "LEADER_IP": "10.0.0.9"},
    {"ROLE": "gateway"},
)
# Made once: a strategy that each example makes anew takes longer than what it draws.
WORKING = st.sampled_from(WORKS)
CHANGED = st.lists(st.sampled_from(sorted(LIKELY)), max_size=6, unique=True)
ONE_IN_FIVE = st.integers(0, 4)
ANY_NAME = st.sampled_from(NAMES)


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """Variables that work together with some changed, and sometimes one that cannot be right."""
    environ = dict(draw(WORKING))
    for name in draw(CHANGED):
        environ[name] = draw(LIKELY[name])
    if draw(ONE_IN_FIVE) == 0:
        environ[draw(ANY_NAME)] = draw(ANY)
    return environ


def number(launch: Launch, name: str) -> int:
    argv = list(launch.argv)
    return int(argv[argv.index(name) + 1]) if name in argv else 1


def check_devices(launch: Launch, environ: dict[str, str]) -> None:
    """What the command takes of this node, read from the command itself."""
    platform = launch.context.platform
    visible = launch.environment(environ).get("ASCEND_RT_VISIBLE_DEVICES")
    have = len(visible.split(",")) if visible else DEVICES[platform.name] if platform else 10**9
    ranks = 1
    for size in ("--tensor-parallel-size", "--pipeline-parallel-size"):
        ranks *= number(launch, size)
    ranks *= number(launch, "--prefill-context-parallel-size")
    argv = launch.argv
    if "--nnodes" in argv:
        ranks = -(-ranks // number(launch, "--nnodes"))
    elif "ray" in argv:
        nodes = launch.place.nodes if launch.place else 1
        ranks = -(-ranks * number(launch, "--data-parallel-size") // nodes)
    elif "--data-parallel-size-local" in argv:
        ranks *= number(launch, "--data-parallel-size-local")
    elif "--data-parallel-rank" not in argv:
        ranks *= number(launch, "--data-parallel-size")
    assert ranks <= have


def check_ports(launch: Launch) -> None:
    """Mooncake's own range may meet ours, with a warning: the reference does that."""
    taken: Counter[int] = Counter()
    for name, port in launch.ports.items():
        first, last = port if isinstance(port, list) else (port, port)
        assert 1 <= first <= last <= 65535
        if name != "adxl":
            taken.update(range(first, last + 1))
    assert all(count == 1 for count in taken.values())


def check(launch: Launch, environ: dict[str, str]) -> None:
    start = {"vllm": ["vllm", "serve"], "ray": ["ray", "start"]}
    argv, program = list(launch.argv), launch.context.role.program
    if program == "proxy":
        assert argv[0] in ("vllm-router", "python")
    else:
        assert argv[:2] == start[program]
        check_devices(launch, environ)
    assert program != "vllm" or not is_flag(argv[2])
    check_ports(launch)
    assert all(isinstance(value, str) for value in launch.environment({}).values())
    assert json.loads(printing.plan_json(launch))["ports"] == launch.ports
    assert printing.plan_text(launch).startswith("#!/bin/sh\n")
    assert all(warning.line() for warning in launch.warnings)


def check_refusal(refused: Refused) -> None:
    assert refused.findings
    assert refused.exit_code in (64, 65)
    for finding in refused.findings:
        assert finding.fix
        assert finding.line().isprintable()


@pytest.fixture(scope="module", autouse=True)
def _files_are_read_once() -> Iterator[None]:
    """Each file under env/ is read once, not once an example."""
    with data.CachedReads():
        yield


@settings(
    max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(environments(), st.lists(TOKENS, max_size=2))
def test_a_plan_or_findings(environ: dict[str, str], tokens: list[tuple[str, ...]]) -> None:
    try:
        launch = plan(environ, [token for group in tokens for token in group], HOST)
    except Refused as refused:
        check_refusal(refused)
        return
    check(launch, environ)
    SEEN[launch.role] += 1


SEEN: Counter[str] = Counter()


def test_every_role_was_planned() -> None:
    """The environments above are not all refused."""
    assert set(ROLES) <= set(SEEN)
