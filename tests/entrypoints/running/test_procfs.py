"""Processes and connections of this very machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrypoints.running import procfs


def test_this_process() -> None:
    own = next(p for p in procfs.processes() if p.pid == os.getpid())
    assert own.title == Path("/proc/self/cmdline").read_text().replace("\0", " ").strip()
    assert own.name == Path("/proc/self/comm").read_text().strip()


def test_a_zombie_is_no_process() -> None:
    child = subprocess.Popen(["true"])
    end = time.monotonic() + 3
    while ") Z " not in Path(f"/proc/{child.pid}/stat").read_text() and time.monotonic() < end:
        time.sleep(0.01)
    assert child.pid not in [p.pid for p in procfs.processes()]
    child.wait()


def test_a_name_with_brackets_and_blanks(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (a) Z (b) S 1 7 7 " + "0 " * 15 + "99 0 0\n")
    (tmp_path / "7/cmdline").write_text("x\0y z\0")
    (tmp_path / "self").mkdir()
    (tmp_path / "8").mkdir()  # ended between two looks
    assert procfs.processes(str(tmp_path)) == [procfs.Process(7, "a) Z (b", "x y z")]
    assert procfs.started(7, str(tmp_path)) == 99
    assert procfs.started(8, str(tmp_path)) is None


def test_started() -> None:
    own = procfs.started(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        later = procfs.started(child.pid)
        child.communicate(b"\n")
    assert own is not None
    assert later is not None
    assert later >= own
    assert procfs.started(child.pid) is None


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")])
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, int]]:
    family, address = request.param
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.socket(family) as client:
            client.connect((address, port))
            yield client, port


def test_a_connection_of_a_process(connection: tuple[socket.socket, int]) -> None:
    client, port = connection
    assert ("127.0.0.1", port) in procfs.connected_to([os.getpid()])
    client.close()
    assert ("127.0.0.1", port) not in procfs.connected_to([os.getpid()])


def test_a_connection_of_somebody_else(connection: tuple[socket.socket, int]) -> None:
    _, port = connection
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        assert ("127.0.0.1", port) not in procfs.connected_to([other.pid])
        other.communicate()
    assert procfs.connected_to([other.pid]) == set()
