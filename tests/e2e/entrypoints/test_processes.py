"""What runs in the container: waiting, the supervising parent, health, and jemalloc."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Image, docker
from tests.e2e.entrypoints.test_ray import logs, until

NAME = "ascend-images-process"
# A vllm that serves after LATE seconds. HOW: `ignore` SIGTERM, `exit` by itself, or just `serve`.
SERVER = """\
#!/opt/vllm/bin/python
import http.server, json, os, pathlib, signal, sys, threading, time
how = os.environ["HOW"]
if how == "ignore":
    signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM is ignored", flush=True))
print(json.dumps({"preload": os.environ.get("LD_PRELOAD", ""), "parent": os.getppid()}), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if pathlib.Path("/tmp/dead").exists() else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
time.sleep(float(os.environ.get("LATE", "0")))
server = http.server.ThreadingHTTPServer(("", 8000), Handler)
if how == "exit":
    threading.Timer(1, lambda: os._exit(0)).start()
server.serve_forever()
"""
ENV = {"ROLE": "single", "MODEL": "m", "CANN_STANDIN": "0", "PREFLIGHT": "off"}

Run = Callable[..., None]


@pytest.fixture
def run(a3: Image, tmp_path: Path) -> Iterator[Run]:
    vllm = tmp_path / "vllm"
    vllm.write_text(SERVER)
    vllm.chmod(0o755)

    def start(**env: str) -> None:
        options = [f"--env={key}={value}" for key, value in {**ENV, **env}.items()]
        mount = ["-v", f"{vllm}:/opt/vllm/bin/vllm:ro"]
        docker("run", "-d", "--name", NAME, *options, *mount, a3.tag)

    docker("rm", "-f", NAME, check=False)
    yield start
    docker("rm", "-f", NAME, check=False)


def state() -> tuple[bool, int]:
    told = docker("inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", NAME).stdout
    running, code = told.split()
    return running == "true", int(code)


def health() -> tuple[int, str]:
    done = docker("exec", NAME, "/opt/vllm/bin/entrypoint", "health", check=False)
    return done.returncode, done.stdout.strip()


def ended(seconds: float) -> int:
    until(lambda: not state()[0], seconds, NAME)
    return state()[1]


def record() -> dict[str, object]:
    until(lambda: '"preload"' in logs(NAME), 120, NAME)
    line = next(line for line in logs(NAME).splitlines() if line.startswith("{"))
    return dict(json.loads(line))


def test_health_from_starting_to_broken(run: Run) -> None:
    run(HOW="serve", LATE="3")
    until(lambda: "start: role single" in logs(NAME), 120, NAME)
    code, text = health()
    assert (code, text.split()[0].strip(":")) == (1, "starting")
    until(lambda: health()[0] == 0, 120, NAME)
    assert health()[1].startswith("ready")
    docker("exec", NAME, "touch", "/tmp/dead")
    code, text = health()
    assert code == 1
    assert text.startswith("broken")
    assert "503" in text


def test_jemalloc_is_preloaded_for_the_server_alone(run: Run, a3: Image) -> None:
    run(HOW="serve")
    assert "libjemalloc.so.2" in str(record()["preload"])
    assert "LD_PRELOAD" not in a3.run("env").stdout


def test_jemalloc_can_be_left_out(run: Run) -> None:
    run(HOW="serve", JEMALLOC="0")
    assert record()["preload"] == ""


def test_without_a_supervisor_zero_stays_zero(run: Run) -> None:
    run(HOW="exit")
    assert record()["parent"] == 1
    assert ended(20) == 0


class TestSupervised:
    def test_an_exit_nobody_asked_for_is_a_failure(self, run: Run) -> None:
        run(HOW="exit", SUPERVISE="1")
        assert ended(20) == 70

    def test_the_drain_is_bounded(self, run: Run) -> None:
        run(HOW="ignore", SUPERVISE="1", DRAIN_TIMEOUT="2")
        record()
        until(lambda: health()[0] == 0, 120, NAME)
        start = time.monotonic()
        docker("stop", "-t", "60", NAME)
        assert time.monotonic() - start < 30
        assert "SIGTERM is ignored" in logs(NAME)
        assert "2 s" in logs(NAME)  # the supervisor's kill, not docker's after 60 s
        assert state()[1] == 137

    def test_a_stop_that_works_is_no_failure(self, run: Run) -> None:
        run(HOW="serve", SUPERVISE="1")
        until(lambda: health()[0] == 0, 120, NAME)
        docker("stop", "-t", "60", NAME)
        assert state()[1] in (0, 143)


def test_a_follower_waits_and_says_for_whom(run: Run) -> None:
    leader = {"LEADER_IP": "192.0.2.1", "NIC": "eth0", "NODE_RANK": "1", "WAIT_TIMEOUT": "3"}
    run(HOW="serve", ROLE="headless", DP_SIZE="2", NODES="2", **leader)
    assert ended(30) == 69
    text = logs(NAME)
    assert "192.0.2.1:29550" in text
    assert "Traceback" not in text


def test_waiting_ends_at_once_with_sigterm(run: Run) -> None:
    leader = {"LEADER_IP": "192.0.2.1", "NIC": "eth0", "NODE_RANK": "1"}
    run(HOW="serve", ROLE="headless", DP_SIZE="2", NODES="2", **leader)
    until(lambda: "192.0.2.1:29550" in logs(NAME), 120, NAME)
    docker("stop", "-t", "30", NAME)
    assert state()[1] == 143
