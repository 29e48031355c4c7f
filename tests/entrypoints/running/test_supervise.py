"""The parent with real processes: small scripts that end, hang, die and leave others behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrypoints.launch.model import Peer
from entrypoints.running.leader import LeaderMonitor
from entrypoints.running.probes import Answer
from tests.entrypoints.servers import Server, serving

PARENT = """
import json, sys
from entrypoints.launch.model import Peer
from entrypoints.running.supervise import run
options = json.loads(sys.argv[1])
if "leader" in options:
    options["leader"] = Peer(*options["leader"])
say = lambda line: print(line, file=sys.stderr, flush=True)
sys.exit(run(sys.argv[2:], {"PATH": "/usr/bin:/bin", "WORD": "x"}, say=say, **options))
"""
IGNORES = "trap '' TERM; echo up; while :; do sleep 0.05; done"
OBEYS = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"


class Parent:
    """A parent of `argv` in a process of its own."""

    def __init__(self, argv: list[str], **options: object) -> None:
        options = {"drain": 5, **options}
        command = [sys.executable, "-c", PARENT, json.dumps(options), *argv]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        self.begin = 0.0

    def reads(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, number: int) -> None:
        self.begin = time.monotonic()
        self.process.send_signal(number)

    def end(self, within: float = 5) -> tuple[int, list[str]]:
        """Exit code and lines; the whole end takes `within` seconds at most."""
        _, err = self.process.communicate(timeout=within)
        return self.process.returncode, err.splitlines()


Start = Callable[..., Parent]


@pytest.fixture
def start() -> Iterator[Start]:
    parents: list[Parent] = []

    def make(script: str, **options: object) -> Parent:
        parents.append(Parent(["sh", "-c", script], **options))
        return parents[-1]

    yield make
    for parent in parents:
        for number in (signal.SIGTERM, signal.SIGINT):  # killed, it would leave the server behind
            if parent.process.poll() is None:
                parent.process.send_signal(number)
        parent.process.communicate(timeout=5)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    end = time.monotonic() + 3
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


@pytest.mark.parametrize(
    ("script", "code", "how"),
    [
        ("exit 0", 70, "code 0"),
        ("exit 1", 1, "code 1"),
        ("exit 2", 2, "code 2"),
        ("kill -9 $$", 137, "SIGKILL"),
        ("kill -TERM $$", 143, "SIGTERM"),
        ("kill -40 $$", 168, "signal 40"),
    ],
)
def test_an_end_that_nobody_asked_for_is_a_failure(
    start: Start, script: str, code: int, how: str
) -> None:
    assert start(script).end() == (
        code,
        [f"supervise: the server ended with {how}, unasked; exit code {code}"],
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_that_was_asked_for(start: Start, number: signal.Signals) -> None:
    parent = start(f"trap 'exit 0' {number.name[3:]}; echo up; while :; do sleep 0.05; done")
    assert parent.reads() == "up"
    parent.send(number)
    assert parent.end() == (
        0,
        [
            f"supervise: {number.name}, the server has 5 s to end",
            "supervise: the server has ended",
        ],
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo up; exec sleep 10", 0),  # ends of the signal itself: it is still loading
        ("trap 'exit 143' TERM; echo up; while :; do sleep 0.05; done", 0),
        ("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done", 3),
        ("trap 'kill -ABRT $$' TERM; echo up; while :; do sleep 0.05; done", 134),
    ],
)
def test_how_it_ends_when_asked(start: Start, script: str, code: int) -> None:
    parent = start(script)
    assert parent.reads() == "up"
    parent.send(signal.SIGTERM)
    assert parent.end()[0] == code


def test_the_drain_is_bounded(start: Start) -> None:
    parent = start(IGNORES, drain=0.3)
    assert parent.reads() == "up"
    parent.send(signal.SIGTERM)
    code, lines = parent.end()
    assert 0.3 <= time.monotonic() - parent.begin < 2
    assert code == 137
    assert lines[-1] == "supervise: not ended after 0 s, killing the server"


def test_a_drain_of_nothing(start: Start) -> None:
    parent = start(IGNORES, drain=0)
    assert parent.reads() == "up"
    parent.send(signal.SIGTERM)
    assert parent.end()[0] == 137


def test_a_second_signal_kills_at_once(start: Start) -> None:
    parent = start(IGNORES, drain=60)
    assert parent.reads() == "up"
    parent.send(signal.SIGTERM)
    time.sleep(0.1)
    parent.send(signal.SIGTERM)
    code, lines = parent.end(2)
    assert code == 137
    assert lines == [
        "supervise: SIGTERM, the server has 60 s to end",
        "supervise: SIGTERM again, killing the server",
    ]


def test_thirty_seconds_by_default(start: Start) -> None:
    parent = start(OBEYS, drain=None)
    assert parent.reads() == "up"
    parent.send(signal.SIGTERM)
    assert "the server has 30 s to end" in parent.end()[1][0]


@pytest.mark.parametrize("name", ["HUP", "USR1", "USR2", "QUIT"])
def test_other_signals_are_passed_on_and_ask_for_nothing(start: Start, name: str) -> None:
    script = f"trap 'echo got' {name}; echo up; while :; do sleep 0.05; done"
    parent = start(script, drain=0.1)
    assert parent.reads() == "up"
    parent.send(getattr(signal, f"SIG{name}"))
    assert parent.reads() == "got"
    time.sleep(0.3)
    assert parent.process.poll() is None


def test_the_whole_group_is_killed_after_the_drain(start: Start) -> None:
    parent = start(f"(trap '' TERM; sleep 60) & echo $!; {IGNORES}", drain=0.1)
    child = int(parent.reads())
    assert parent.reads() == "up"
    parent.send(signal.SIGTERM)
    assert parent.end()[0] == 137
    assert gone(child)


def test_what_the_server_leaves_behind_is_killed(start: Start) -> None:
    """An engine core that goes on after its API server has died."""
    parent = start("sh -c 'trap \"\" TERM; sleep 60' >&- 2>&- & echo $!; exit 0")
    child = int(parent.reads())
    code, lines = parent.end()
    assert code == 70
    assert lines[-1] == "supervise: killing the processes that the server has left behind"
    assert gone(child)


def test_what_ends_by_itself_after_the_server_is_let_be(start: Start, tmp_path: Path) -> None:
    """Python's resource tracker removes shared memory after the server's end."""
    done = tmp_path / "done"
    code, lines = start(f"(sleep 0.3; echo x >{done}) & exit 0").end()
    assert code == 70
    assert done.exists()
    assert len(lines) == 1


def test_zombies_are_reaped(start: Start) -> None:
    """The middle process ends first, and its child after it: nobody else would reap that."""
    parent = start(f"(sleep 0.1 & echo $!); {OBEYS}")
    orphan = int(parent.reads())
    assert parent.reads() == "up"
    path = Path(f"/proc/{orphan}")
    end = time.monotonic() + 3
    while path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not path.exists()
    assert parent.process.poll() is None


def test_the_server_is_as_without_a_parent(start: Start) -> None:
    """A session of its own, nothing blocked, the environment as given, no default changed."""
    script = "exec cat /proc/self/status /proc/self/environ /proc/self/stat"
    parent = start(script)
    out, _ = parent.process.communicate(timeout=5)
    status = dict(line.split(":\t") for line in out.splitlines() if ":\t" in line)
    assert status["SigBlk"] == "0" * 16
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGCHLD - 1)) == 0
    assert "WORD=x" in out
    pid, _, _, _, group, session = out.splitlines()[-1].rpartition("\0")[2].split()[:6]
    assert pid == group == session


def test_a_command_that_is_not_there() -> None:
    parent = Parent(["no-such-vllm"])
    code, lines = parent.end()
    assert code == 78
    assert lines[0].startswith("error: no-such-vllm: is not found in PATH")


def test_a_parent_that_ignores_sigchld(start: Start) -> None:
    """Inherited by exec; children of such a process vanish without a code."""
    code = "import signal, os, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
    code += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    options = json.dumps({"drain": 1})
    command = [sys.executable, "-c", code, "-c", PARENT, options, "sh", "-c", "exit 5"]
    assert subprocess.run(command, capture_output=True, timeout=5).returncode == 5


def test_an_idle_parent_does_nothing(start: Start) -> None:
    parent = start(OBEYS)
    assert parent.reads() == "up"
    switches = Path(f"/proc/{parent.process.pid}/status")

    def count() -> str:
        lines = switches.read_text().splitlines()
        return next(x for x in lines if x.startswith("voluntary_ctxt_switches"))

    time.sleep(0.2)
    before = count()
    time.sleep(0.5)
    assert count() == before


def test_as_pid_1() -> None:
    options = json.dumps({"drain": 5})
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*unshare, sys.executable, "-c", PARENT, options, "sh", "-c", OBEYS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "up\n":
            process.wait(5)
            pytest.skip("no PID namespace here")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
        assert process.wait(5) == 0


# With a leader.


def asked(server: Server, times: int) -> None:
    """Returns once the leader was asked so often; fails after ten seconds."""
    end = time.monotonic() + 10
    while len(server.asked) < times:
        assert time.monotonic() < end, "the leader is not asked"
        time.sleep(0.01)


def test_a_leader_that_dies_takes_the_node_with_it(start: Start) -> None:
    with serving(200) as server:
        leader = ["the leader", "127.0.0.1", server.port, "/health"]
        parent = start(OBEYS, leader=leader, grace=0.2, pause=0.05)
        assert parent.reads() == "up"
        asked(server, 1)
        time.sleep(0.1)
    code, lines = parent.end()
    assert code == 69
    assert "supervise: the leader is gone: " in lines[0]
    assert "connection refused; exit code 69" in lines[0]


def test_a_node_that_does_not_obey_is_killed_when_the_leader_dies(start: Start) -> None:
    with serving(200) as server:
        leader = ["the leader", "127.0.0.1", server.port, "/health"]
        parent = start(IGNORES, leader=leader, grace=0.1, pause=0.05, drain=0.1)
        asked(server, 2)
        server.status = 503
        code, lines = parent.end()
    assert code == 69
    assert "HTTP 503" in lines[0]
    assert lines[-1].endswith("killing the server")


def test_a_stop_while_the_leader_is_there(start: Start) -> None:
    with serving(200) as server:
        leader = ["the leader", "127.0.0.1", server.port, "/health"]
        parent = start(OBEYS, leader=leader, pause=0.05)
        assert parent.reads() == "up"
        parent.send(signal.SIGTERM)
        assert parent.end()[0] == 0


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


OK, DEAD, REFUSED = Answer(200), Answer(503, "HTTP 503"), Answer(0, "connection refused")


@pytest.mark.parametrize(
    ("looks", "gone_at"),
    [
        ([(0, REFUSED), (600, REFUSED)], None),  # never ready
        ([(0, DEAD), (600, DEAD)], None),
        ([(0, OK), (5, REFUSED), (34, REFUSED)], None),
        ([(0, OK), (5, REFUSED), (35, REFUSED)], 35),
        ([(0, OK), (5, DEAD), (20, REFUSED), (35, DEAD)], 35),
        ([(0, OK), (5, REFUSED), (30, OK), (35, REFUSED), (60, REFUSED)], None),
        ([(0, OK), (5, REFUSED), (30, OK), (35, REFUSED), (65, REFUSED)], 65),
    ],
)
def test_when_a_leader_counts_as_gone(looks: list[Any], gone_at: int | None) -> None:
    clock = Time()
    leader = LeaderMonitor(Peer("the leader", "10.0.0.1", 8000, "/health"), clock=clock)
    found = None
    for now, answer in looks:
        clock.now = now
        leader.observe(answer)
        if leader.gone and found is None:
            found = now
            assert "http://10.0.0.1:8000/health is not healthy for 30 s" in leader.gone
    assert found == gone_at
