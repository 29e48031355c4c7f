"""Waiting: what is said and when, who is missing in the end, and signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from entrypoints.findings import Refused
from entrypoints.launch.model import Peer
from entrypoints.running import wait
from entrypoints.running.probes import Answer, Target
from tests.entrypoints.servers import listening, serving
from tests.ports import free_port

HOST = "127.0.0.1"
LEADER = Peer("the leader", "10.0.0.1", 13389)


class Fast:
    """A clock that runs a hundred times as fast."""

    def __init__(self) -> None:
        self.begin = time.monotonic()

    def __call__(self) -> float:
        return (time.monotonic() - self.begin) * 100


def waited(
    peers: list[Peer],
    timeout: float,
    attempt: Callable[..., Any],
    said: list[str] | None = None,
    pause: float = 0.005,
) -> Refused:
    say = (said if said is not None else []).append
    with pytest.raises(Refused) as caught:
        wait.wait(peers, timeout, say, probe=attempt, clock=Fast(), pause=pause)
    return caught.value


def test_real_servers_that_are_there() -> None:
    said: list[str] = []
    with serving(500, {"/health": 200}) as server, listening() as port:
        peers = [Peer("a", HOST, server.port, "/health"), Peer("b", HOST, port)]
        wait.wait(peers, 5, said.append)
    assert said[0] == (
        f"wait: up to 5 s for a (http://127.0.0.1:{server.port}/health), b (127.0.0.1:{port})"
    )
    assert sorted(said[1:]) == [
        f"wait: a (http://127.0.0.1:{server.port}/health) is reachable after 0 s",
        f"wait: b (127.0.0.1:{port}) is reachable after 0 s",
    ]


def test_a_server_that_comes_late() -> None:
    port = free_port()
    late: list[socket.socket] = []
    timer = threading.Timer(0.1, lambda: late.append(socket.create_server((HOST, port))))
    timer.start()
    wait.wait([Peer("late", HOST, port)], 5, lambda _: None, pause=0.02)
    timer.join()
    late[0].close()


def test_503_is_not_there() -> None:
    with serving(503) as server:
        peer = Peer("a prefill server", HOST, server.port, "/health")
        with pytest.raises(Refused) as caught:
            wait.wait([peer], 0.1, lambda _: None, pause=0.02)
    assert "HTTP 503" in str(caught.value)


def test_a_name_that_is_not_known_yet_is_waited_for() -> None:
    answers = iter([Answer(0, "name not known yet")] * 3 + [Answer()])
    wait.wait([LEADER], 60, lambda _: None, probe=lambda *_: next(answers), pause=0.001)
    assert next(answers, None) is None


def test_lines_are_ever_further_apart() -> None:
    assert list(islice(wait.due_times(), 7)) == [5, 15, 35, 65, 125, 185, 245]


def test_countdown() -> None:
    said: list[str] = []
    waited([LEADER], 40, lambda *_: Answer(0, "no route"), said)
    assert said[0] == "wait: up to 40 s for the leader (10.0.0.1:13389)"
    lines = [line.split(" s left; ") for line in said[1:]]
    assert [text for _, text in lines] == ["the leader (10.0.0.1:13389): no route"] * 3
    left = [int(line.removeprefix("wait: ")) for line, _ in lines]
    for seconds, due in zip(left, (35, 25, 5), strict=True):
        assert due - 5 <= seconds <= due


def test_every_missing_peer_is_a_finding() -> None:
    peers = [LEADER, Peer("a", "10.0.0.2", 1), Peer("b", "10.0.0.3", 1), Peer("c", "10.0.0.4", 1)]
    errors = {
        "10.0.0.1": "connection refused",
        "10.0.0.2": "no answer",
        "10.0.0.3": "name not known yet",
        "10.0.0.4": "",
    }
    said: list[str] = []
    refused = waited(peers, 10, lambda target, _: Answer(0, errors[target.host]), said)
    assert refused.exit_code == 69
    assert [p.code for p in refused.findings] == ["peer-unreachable"] * 3
    assert [p.where.split(" (")[0] for p in refused.findings] == ["the leader", "a", "b"]
    first, second, third = (p.line() for p in refused.findings)
    assert "the leader (10.0.0.1:13389): not reachable after 10 s and " in first
    assert "attempts: connection refused; the host is up" in first
    assert "restart the whole group" in first
    assert "firewall" in second
    assert "publishNotReadyAddresses" in third
    assert all("WAIT_TIMEOUT" in line for line in (first, second, third))
    assert any("c (10.0.0.4:1) is reachable" in line for line in said)


def test_a_dead_host_does_not_delay_the_others() -> None:
    over = threading.Event()

    def attempt(target: Target, _: float) -> Answer:
        if target.host == "dead":
            over.wait(10)
            return Answer(0, "no answer")
        tries.append(target.host)
        return Answer(0, "" if len(tries) == 3 else "connection refused")

    tries: list[str] = []
    said: list[str] = []
    refused = waited([Peer("d", "dead", 1), Peer("l", "live", 1)], 30, attempt, said)
    over.set()
    assert [p.where for p in refused.findings] == ["d (dead:1)"]
    assert "0 attempts: no answer" in str(refused)
    assert any("l (live:1) is reachable" in line for line in said)


def test_nothing_is_asked_after_the_end() -> None:
    count: list[int] = []

    def attempt(*_: object) -> Answer:
        count.append(1)
        return Answer(0, "connection refused")

    waited([LEADER], 3, attempt)
    time.sleep(0.02)
    before = len(count)
    time.sleep(0.05)
    assert len(count) == before > 1


SCRIPT = """
import sys
from entrypoints.launch.model import Peer
from entrypoints.running.wait import wait
wait([Peer("the leader", "127.0.0.1", {port})], 60, lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_at_once(number: Any, code: int) -> None:
    command = [sys.executable, "-c", SCRIPT.format(port=free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("wait: up to 60 s")
        time.sleep(0.05)
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(5) == code
        assert time.monotonic() - begin < 1
        assert process.stdout.read() == f"wait: ended by {number.name}\n"


def test_handlers_are_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    wait.wait([LEADER], 5, lambda _: None, probe=lambda *_: Answer())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
def test_as_pid_1() -> None:
    """PID 1 ignores SIGTERM unless there is a handler."""
    script = SCRIPT.format(port=free_port())
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inner = "import os; assert os.getpid() == 1\n" + script
    command = [*unshare, sys.executable, "-c", inner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("wait: "):
            process.wait(5)
            pytest.skip("no PID namespace here")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        (child,) = children.split()
        time.sleep(0.05)
        os.kill(int(child), signal.SIGTERM)
        assert process.wait(5) == 143
