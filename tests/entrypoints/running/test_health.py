"""Health by kind of node, against real servers and processes, and against what they would say."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entrypoints.plan import plan
from entrypoints.running import health, probes, procfs, server_state
from entrypoints.running.health import Machine
from entrypoints.running.probes import Answer
from entrypoints.running.procfs import Process
from entrypoints.running.server_state import Backend, ServerState
from tests.entrypoints.servers import listening, serving
from tests.ports import free_port

HOST = "127.0.0.1"
OK, DEAD = Answer(200), Answer(503, "HTTP 503")
REFUSED, SILENT = Answer(0, probes.REFUSED), Answer(0, probes.NO_ANSWER)
ENGINES = (
    Process(1, "vllm", "/opt/vllm/bin/python /opt/vllm/bin/vllm serve m --headless"),
    Process(11, "VLLM::EngineCor", "VLLM::EngineCore_DP1"),
    Process(12, "VLLM::Worker_TP", "VLLM::Worker_DP1_TP0"),
)


def machine(
    *answers: Answer,
    processes: tuple[Process, ...] = (),
    connected: tuple[tuple[str, int], ...] = (),
    was_ready: bool = False,
) -> Machine:
    def connected_to(pids: Iterable[int]) -> set[tuple[str, int]]:
        return set(connected) if pids else set()

    return Machine(
        lambda *_: list(answers), lambda: list(processes), connected_to, lambda _: was_ready
    )


# The kinds, by launch.


def of(**environ: str) -> ServerState:
    return health.state_of(plan({"LOCAL_IP": "10.0.0.2", "NIC": "eth0", "MODEL": "m", **environ}))


def test_watch_of_a_node_that_serves() -> None:
    assert of(ROLE="single", PORT="8100") == ServerState("single", "http", port=8100)


def test_watch_of_a_certificate_and_an_address() -> None:
    environ = {"ROLE": "single", "MODEL": "m"}
    tokens = ["--ssl-certfile", "/c", "--ssl-keyfile", "/k", "--host", "10.0.0.2"]
    found = health.state_of(plan(environ, tokens))
    assert (found.scheme, found.host, found.port) == ("https", "10.0.0.2", 8000)
    assert health.state_of(plan(environ, ["--host", "0.0.0.0"])).host == HOST
    assert health.state_of(plan(environ, ["--host=::"])).host == HOST


def test_watch_of_a_headless_node() -> None:
    found = of(ROLE="headless", LEADER_IP="10.0.0.1", NODE_RANK="1", DP_SIZE="2", NODES="2")
    assert found == ServerState("headless", "headless", leader_host="10.0.0.1", leader_port=8000)


def test_watch_of_a_ray_worker() -> None:
    found = of(ROLE="ray-worker", LEADER_IP="10.0.0.1", RAY_PORT="6380")
    assert found == ServerState(
        "ray-worker", "ray-worker", leader_host="10.0.0.1", leader_port=6380
    )


def test_watch_of_a_proxy() -> None:
    ends = {"PREFILL_ENDPOINTS": "p1:1,p2:2", "DECODE_ENDPOINTS": "d:3"}
    found = of(ROLE="proxy", **ends)
    assert (found.kind, found.host, found.port) == ("proxy", HOST, 12347)
    assert found.backends == (
        Backend("prefill", "p1", 1),
        Backend("prefill", "p2", 2),
        Backend("decode", "d", 3),
    )


# http


SINGLE = ServerState("single", "http", port=8000)


@pytest.mark.parametrize(
    ("answer", "was_ready", "state", "part"),
    [
        (OK, False, "ready", "http://127.0.0.1:8000/health answers 200"),
        (DEAD, True, "broken", "the engine has died"),
        (DEAD, False, "broken", "the engine has died"),
        (REFUSED, False, "starting", "nothing listens on port 8000 yet"),
        (REFUSED, True, "broken", "was ready and no longer answers"),
        (SILENT, True, "broken", "does not answer within 3 s: busy or stuck"),
        (Answer(404, "HTTP 404"), False, "broken", "HTTP 404"),
    ],
)
def test_http(answer: Any, was_ready: bool, state: str, part: str) -> None:
    found = health.check(SINGLE, machine(answer, was_ready=was_ready))
    assert found.state == state
    assert part in found.text


def test_ray_head_says_what_it_waits_for() -> None:
    head = SINGLE._replace(role="ray-head")
    found = health.check(head, machine(REFUSED))
    assert found.state == "starting"
    assert "no gcs_server and no raylet of Ray" in found.text
    both = (Process(5, "gcs_server", "x"), Process(6, "raylet", "x"))
    assert "Ray is running" in health.check(head, machine(REFUSED, processes=both)).text


def test_age() -> None:
    found = health.check(SINGLE._replace(started_at=time.time() - 124), machine(REFUSED))
    assert "yet, 124 s after the start" in found.text


def test_http_for_real() -> None:
    with serving(200) as server:
        watch = SINGLE._replace(port=server.port)
        assert health.check(watch).state == "ready"
        server.status = 503
        assert health.check(watch).state == "broken"
    assert health.check(watch).state == "starting"


def test_a_hung_server_within_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 0.2)
    with listening() as port:
        begin = time.monotonic()
        assert health.check(SINGLE._replace(port=port)).state == "broken"
        assert time.monotonic() - begin < 1


# headless


HEADLESS = ServerState("headless", "headless", leader_host="10.0.0.1", leader_port=8000)
TO_LEADER = (("10.0.0.9", 1), ("10.0.0.1", 40001))


@pytest.mark.parametrize(
    ("answer", "processes", "connected", "states", "part"),
    [
        (OK, ENGINES, TO_LEADER, ("ready", "ready"), "2 engine processes"),
        (OK, ENGINES[:1], TO_LEADER, ("starting", "broken"), "no engine process is running"),
        (
            OK,
            ENGINES,
            TO_LEADER[:1],
            ("starting", "broken"),
            "no engine is connected to the leader",
        ),
        (REFUSED, ENGINES, TO_LEADER, ("starting", "broken"), "connection refused"),
        (SILENT, ENGINES, TO_LEADER, ("starting", "broken"), "no answer"),
        (DEAD, ENGINES, TO_LEADER, ("broken", "broken"), "the leader's engine has died"),
    ],
)
def test_headless(answer: Any, processes: Any, connected: Any, states: Any, part: str) -> None:
    for was_ready, state in zip((False, True), states, strict=True):
        there = machine(answer, processes=processes, connected=connected, was_ready=was_ready)
        found = health.check(HEADLESS, there)
        assert found.state == state
        assert part in found.text


@contextmanager
def process(title: str, address: tuple[str, int]) -> Iterator[None]:
    """A process with that title and a connection to the address."""
    code = f"import socket; s = socket.create_connection({address}); print(1, flush=True); input()"
    pipe = subprocess.PIPE
    command = [title, "-c", code]
    with subprocess.Popen(command, executable=sys.executable, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield
        child.communicate(b"\n")


@pytest.mark.parametrize(
    ("title", "state"),
    [
        ("VLLM::EngineCore_DP1", "ready"),
        ("mine::Worker_TP0", "ready"),  # VLLM_PROCESS_NAME_PREFIX
        ("python", "starting"),
    ],
)
def test_headless_with_a_real_process(title: str, state: str) -> None:
    """The leader's address is this test's own: other tests may run engines at the same time."""
    leader = f"127.{os.getpid() // 256 % 256}.{os.getpid() % 256}.1"
    watch = HEADLESS._replace(leader_host=leader)
    there = Machine(probe=lambda *_: [OK])
    with socket.create_server((leader, 0)) as server, process(title, server.getsockname()):
        assert health.check(watch, there).state == state
    assert health.check(watch, there).state == "starting"


# ray-worker


WORKER = ServerState("ray-worker", "ray-worker", leader_host="10.0.0.1", leader_port=6379)
RAYLET = (Process(7, "raylet", "/x/raylet --y"),)


@pytest.mark.parametrize(
    ("processes", "connected", "states", "part"),
    [
        (
            RAYLET,
            (("10.0.0.1", 6379),),
            ("ready", "ready"),
            "is connected to the head 10.0.0.1:6379",
        ),
        (RAYLET, (("10.0.0.1", 6380),), ("starting", "broken"), "is not connected to the head"),
        ((), (("10.0.0.1", 6379),), ("starting", "broken"), "no raylet is running"),
    ],
)
def test_ray_worker(processes: Any, connected: Any, states: Any, part: str) -> None:
    for was_ready, state in zip((False, True), states, strict=True):
        there = machine(processes=processes, connected=connected, was_ready=was_ready)
        found = health.check(WORKER, there)
        assert found.state == state
        assert part in found.text


# proxy


SIDES = (Backend("prefill", "p1", 1), Backend("prefill", "p2", 2), Backend("decode", "d", 3))
PROXY = ServerState("proxy", "proxy", port=12347, backends=SIDES)
NOT_FOUND = Answer(404, "HTTP 404")


@pytest.mark.parametrize(
    ("answers", "state", "text"),
    [
        ((OK, OK, OK, OK), "ready", "the proxy and 3 servers answer"),
        ((NOT_FOUND, OK, OK, OK), "ready", "the proxy and 3 servers answer"),
        (
            (OK, REFUSED, OK, OK),
            "ready",
            "the proxy answers; missing servers: prefill: p1:1 connection refused",
        ),
        (
            (OK, REFUSED, DEAD, OK),
            "broken",
            "no prefill server answers: p1:1 connection refused, p2:2 HTTP 503",
        ),
        (
            (OK, REFUSED, SILENT, SILENT),
            "broken",
            "no prefill server answers: p1:1 connection refused, p2:2 no answer;"
            " no decode server answers: d:3 no answer",
        ),
        ((REFUSED, OK, OK, OK), "starting", "nothing listens on port 12347 yet"),
        (
            (SILENT, OK, OK, OK),
            "broken",
            "the proxy does not answer: http://127.0.0.1:12347/health: no answer",
        ),
    ],
)
def test_proxy(answers: Any, state: str, text: str) -> None:
    found = health.check(PROXY, machine(*answers))
    assert (found.state, found.text) == (state, text)


def test_a_proxy_that_was_ready() -> None:
    found = health.check(PROXY, machine(REFUSED, OK, OK, OK, was_ready=True))
    assert found.state == "broken"


def test_proxy_for_real() -> None:
    with serving(404) as own, serving(200) as one:
        ends = (Backend("prefill", HOST, one.port), Backend("decode", HOST, free_port()))
        found = health.check(PROXY._replace(port=own.port, backends=ends))
    assert found.state == "broken"
    assert found.text.startswith("no decode server answers: 127.0.0.1:")
    assert len(found.details) == 3


# The command


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (
        server_state.save,
        server_state.load,
        server_state.mark_ready,
        server_state.was_ready,
    ):
        monkeypatch.setattr(function, "__defaults__", ((str(tmp_path / "x"),),))


@pytest.mark.usefixtures("folders")
def test_what_was_saved_is_probed() -> None:
    with serving(200) as server:
        health.save(SINGLE._replace(port=server.port))
        noted = server_state.load()
        assert noted is not None
        assert (noted.pid, noted.born) == (os.getpid(), procfs.started(os.getpid()))
        assert abs(time.time() - noted.started_at) < 5
        assert health.now(lambda: pytest.fail("there is a note")).state == "ready"
    found = health.now(lambda: pytest.fail("there is a note"))
    assert (found.state, found.text[:28]) == ("broken", "was ready and no longer answ")


@pytest.mark.usefixtures("folders")
def test_without_a_note_the_plan_says_what_is_probed() -> None:
    with serving(200) as server:
        watch = SINGLE._replace(port=server.port)
        assert health.now(lambda: watch).state == "ready"
    assert health.now(lambda: watch).state == "starting"


def test_one_line_and_json() -> None:
    found = health.Health("broken", "a\nb", {"http://x/health": "503"})
    assert health.text(found) == "broken: a\\nb\n"
    assert json.loads(health.as_json(found)) == {
        "state": "broken",
        "text": "a\nb",
        "details": {"http://x/health": "503"},
    }
