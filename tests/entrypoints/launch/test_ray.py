"""Ray: the commands of head and worker, and the wait for the cluster's NPUs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrypoints import printing
from entrypoints.findings import Refused
from entrypoints.plan import plan
from entrypoints.running import ray

HEAD = {
    "ROLE": "ray-head",
    "RECIPE": "qwen3-235b-a22b/ray",
    "ASCEND_PLATFORM": "a2",
    "LOCAL_IP": "10.0.0.1",
    "NIC": "eth0",
}
WORKER = {
    "ROLE": "ray-worker",
    "RECIPE": "qwen3-235b-a22b/ray",
    "ASCEND_PLATFORM": "a2",
    "LEADER_IP": "10.0.0.1",
    "LOCAL_IP": "10.0.0.2",
    "NIC": "eth0",
}
# vllm-ascend docs: tutorials/ray.md
BEFORE = {
    "HCCL_IF_IP": "10.0.0.1",
    "GLOO_SOCKET_IFNAME": "eth0",
    "TP_SOCKET_IFNAME": "eth0",
    "HCCL_SOCKET_IFNAME": "eth0",
    "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "1",
    "ASCEND_RT_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
}
STATUS = """\
======== Autoscaler status: 2026-01-01 00:00:00 ========
Node status
---------------------------------------------------------------
Active:
 1 node_1
 1 node_2
Resources
---------------------------------------------------------------
Usage:
 0.0/128.0 CPU
 0.0/16.0 NPU
 0B/1.2TiB memory
"""


def test_head() -> None:
    launch = plan(HEAD)
    assert launch.env.items() >= BEFORE.items()
    (start,) = launch.before
    assert start == ["ray", "start", "--head", "--port", "6379", "--node-ip-address", "10.0.0.1"]
    argv = " ".join(launch.argv)
    assert argv.startswith("vllm serve Qwen/Qwen3-235B-A22B --tensor-parallel-size 8")
    assert "--pipeline-parallel-size 2 --distributed-executor-backend ray" in argv
    assert "--data-parallel" not in argv
    assert launch.ports == {"api": 8000, "ray": 6379}
    assert launch.npus == 16  # two nodes of eight


def test_head_in_every_format() -> None:
    document = json.loads(printing.plan_json(plan(HEAD)))
    assert document["before"] == [list(plan(HEAD).before[0])]
    script = printing.plan_text(plan(HEAD))
    order = [script.index(x) for x in ("export HCCL_IF_IP", "ray start", "16 NPUs", "vllm serve")]
    assert order == sorted(order)


def test_worker() -> None:
    launch = plan({**WORKER, "RAY_ARGS": "--resources '{\"NPU\": 8}'", "RAY_PORT": "6380"})
    assert launch.argv == (
        *("ray", "start", "--address=10.0.0.1:6380", "--node-ip-address=10.0.0.2", "--block"),
        *("--resources", '{"NPU": 8}'),
    )
    assert launch.env["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert [(p.host, p.port) for p in launch.peers] == [("10.0.0.1", 6380)]
    assert not launch.before


def test_worker_needs_no_recipe() -> None:
    assert plan({k: v for k, v in WORKER.items() if k != "RECIPE"}).argv[:2] == ("ray", "start")


@pytest.mark.parametrize(
    ("change", "tokens", "where"),
    [
        ({"RAY_ARGS": "'"}, (), "RAY_ARGS"),
        ({}, ("--max-num-seqs", "3"), "--max-num-seqs"),
        ({"LEADER_IP": ""}, (), "LEADER_IP"),
    ],
)
def test_worker_refuses(change: Any, tokens: Any, where: str) -> None:
    with pytest.raises(Refused) as caught:
        plan({**WORKER, **change}, tokens)
    assert where in [p.where for p in caught.value.findings]
    assert caught.value.exit_code == 64


def test_a_worker_takes_no_more_devices_than_there_are() -> None:
    with pytest.raises(Refused) as caught:
        plan({**HEAD, "TP_SIZE": "16"})
    assert "need 16 devices on a node" in str(caught.value)
    assert plan({**HEAD, "TP_SIZE": "16", "PP_SIZE": "1"}).npus == 16


@pytest.mark.parametrize(
    ("text", "count"),
    [(STATUS, 16), ("", 0), ("No cluster status.", 0), ("Usage:\n 3.0/8.0 NPU\n", 8)],
)
def test_npus(text: str, count: int) -> None:
    assert ray.npus(text) == count


class Time:
    """A clock that only sleeping moves."""

    now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_wait_until_the_cluster_is_complete() -> None:
    time, said = Time(), list[str]()
    answers = iter(["", "Usage:\n 0.0/8.0 NPU\n", "Usage:\n 0.0/8.0 NPU\n", STATUS])
    ray.wait(16, 60, lambda: next(answers), said.append, time.clock, time.sleep)
    assert said == [
        "ray: 0 of 16 NPUs, 60 s left",
        "ray: 8 of 16 NPUs, 58 s left",
        "ray: 16 NPUs are available",
    ]


def test_wait_ends_with_69() -> None:
    time = Time()
    with pytest.raises(Refused) as caught:
        ray.wait(16, 60, lambda: "Usage:\n 0/8.0 NPU\n", lambda _: None, time.clock, time.sleep)
    assert caught.value.exit_code == 69
    assert "has 8 of 16 NPUs after 60 s" in str(caught.value)
