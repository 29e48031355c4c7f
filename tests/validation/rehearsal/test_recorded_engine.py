"""The recorded engine: its flags, its groups, its transfer, its API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests import ROOT
from tests.ports import free_port
from validation.endpoint.client import Endpoint
from validation.endpoint.verify import verify

VLLM = ROOT / "validation/recorded/vllm"

Start = Callable[..., "Server"]


class Server:
    def __init__(self, *flags: str, port: int = 0, **env: str) -> None:
        self.port = port or free_port()
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VLLM_HOST_IP": "127.0.0.1"}
        command = [sys.executable, str(VLLM), "serve", "m", "--port", str(self.port), *flags]
        self.process = subprocess.Popen(
            command, env={**environ, **env}, stderr=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self.port}"

    def serves(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    def until_serving(self) -> Server:
        for _ in range(200):
            if self.serves():
                return self
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.05)
        raise AssertionError("it does not serve")

    def metric(self, name: str) -> int:
        lines = requests.get(f"{self.url}/metrics", timeout=5).text.splitlines()
        (line,) = [one for one in lines if one.startswith(f"vllm:{name}_total")]
        return int(line.rpartition(" ")[2])


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[Server] = []

    def started(*flags: str, **options: object) -> Server:
        servers.append(Server(*flags, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield started
    for server in servers:
        server.process.kill()
        server.process.communicate()


def test_it_passes_the_verification_of_an_endpoint(start: Start) -> None:
    server = start("--served-model-name", "qwen3", "--max-model-len", "512").until_serving()
    results = list(verify(Endpoint(server.url)))
    assert {one.name: one.message for one in results if one.state != "ok"} == {}


def test_flags_that_vllm_refuses_are_refused(start: Start) -> None:
    server = start("--no-such-flag", "1")
    _, said = server.process.communicate(timeout=20)
    assert server.process.returncode == 2
    assert "--no-such-flag" in said


def test_a_taken_port_ends_it(start: Start) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        server = start(port=taken.getsockname()[1])
        assert server.process.wait(20) == 1


def pair(rpc: int, first: int) -> list[str]:
    flags = ["--data-parallel-size", "4", "--data-parallel-size-local", "2"]
    place = ["--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc)]
    follows = ["--headless", "--data-parallel-start-rank", str(first)] if first else []
    return [*flags, *place, *follows]


def test_a_leader_serves_when_every_rank_is_there(start: Start) -> None:
    rpc, api = free_port(), free_port()
    leader = start(*pair(rpc, 0), port=api)
    time.sleep(1)
    assert not leader.serves()
    follower = start(*pair(rpc, 2))
    leader.until_serving()
    follower.process.send_signal(signal.SIGTERM)
    assert follower.process.wait(10) == 0
    asked = {"model": "m", "prompt": "x"}
    for _ in range(200):  # until the leader has noticed
        status = requests.post(f"{leader.url}/v1/completions", json=asked, timeout=5).status_code
        if status == 500:
            break
        time.sleep(0.05)
    assert status == 500
    assert leader.process.wait(10) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"2": "1"}, "not expected"), ({"4": "5"}, "Configuration mismatch")],
    ids=["overlapping ranks", "another size"],
)
def test_who_does_not_fit_ends_the_leader(start: Start, changes: dict[str, str], why: str) -> None:
    rpc, api = free_port(), free_port()
    leader = start(*pair(rpc, 0), port=api)
    flags = pair(rpc, 2)
    if "2" in changes:
        flags[-1] = changes["2"]
    if "4" in changes:
        flags[1] = changes["4"]
    start(*flags)
    _, said = leader.process.communicate(timeout=20)
    assert leader.process.returncode == 1
    assert why in said


def transfer(role: str, port: int) -> list[str]:
    config = {"kv_connector": "MooncakeConnectorV1", "kv_role": role, "kv_port": str(port)}
    return ["--kv-transfer-config", json.dumps({**config, "engine_id": "0"})]


def test_a_prompt_is_handed_over_once(start: Start) -> None:
    prefill_port, decode_port, kv = free_port(), free_port(), free_port()
    prefill = start(*transfer("kv_producer", kv), port=prefill_port).until_serving()
    decode = start(*transfer("kv_consumer", kv), port=decode_port).until_serving()
    asked: dict[str, Any] = {"model": "m", "prompt": "hello there", "max_tokens": 4}
    first = {**asked, "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
    told = requests.post(f"{prefill.url}/v1/completions", json=first, timeout=5).json()
    second = {**asked, "kv_transfer_params": told["kv_transfer_params"]}
    answer = requests.post(f"{decode.url}/v1/completions", json=second, timeout=5)
    assert answer.status_code == 200
    assert len(answer.json()["choices"][0]["text"]) == 4
    assert decode.metric("external_prefix_cache_hits") == len("hello there")
    assert decode.metric("external_prefix_cache_hits") == prefill.metric("prompt_tokens")
    again = requests.post(f"{decode.url}/v1/completions", json=second, timeout=5)
    assert again.status_code == 500
    wrong = requests.post(f"{decode.url}/v1/completions", json=first, timeout=5)
    assert wrong.status_code == 400
