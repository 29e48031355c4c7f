"""One attempt against real sockets, and what each failure is called."""

from __future__ import annotations

import errno
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from entrypoints.running import probes
from entrypoints.running.probes import Answer, Target, probe, probe_all
from tests.entrypoints.servers import listening, serving
from tests.ports import free_port

HOST = "127.0.0.1"


def test_an_open_port_is_enough_without_a_path() -> None:
    with listening() as port:
        assert probe(Target(HOST, port), 2) == Answer()


@pytest.mark.parametrize(("status", "answer"), [(200, Answer(200)), (503, Answer(503, "HTTP 503"))])
def test_http(status: int, answer: Any) -> None:
    with serving(500, {"/health": status}) as server:
        assert probe(Target(HOST, server.port, "/health"), 2) == answer
        assert server.asked == ["/health"]


def test_closed_port() -> None:
    assert probe(Target(HOST, free_port()), 2).error == "connection refused"
    assert probe(Target(HOST, free_port(), "/health"), 2).error == "connection refused"


def test_a_server_that_never_answers() -> None:
    with listening() as port:
        assert probe(Target(HOST, port, "/health"), 0.1).error == "no answer"


def test_a_server_that_speaks_another_protocol() -> None:
    with socket.create_server((HOST, 0)) as sock:
        port = sock.getsockname()[1]
        import threading

        def hello() -> None:
            peer, _ = sock.accept()
            peer.recv(1000)
            peer.sendall(b"\xff\x00 not http\r\n\r\n")
            peer.close()

        thread = threading.Thread(target=hello)
        thread.start()
        assert probe(Target(HOST, port, "/health"), 2).error == "no HTTP answer"
        thread.join()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "name not known yet"),
        (UnicodeError("label too long"), "name not known yet"),
        (TimeoutError(), "no answer"),
        (OSError(errno.EHOSTUNREACH, "x"), "no route"),
        (OSError(errno.ENETUNREACH, "x"), "no route"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign"), "Cannot assign"),
        (ConnectionResetError(), "connection closed"),
    ],
)
def test_failures_in_words(error: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", fail)
    assert probe(Target("leader.example", 1), 2) == Answer(0, words)


def test_https_with_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    import ssl

    pem = tmp_path / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -keyout {0} -out {0}"
    # openssl writes key and certificate one after the other, so into two files
    command = command.replace("-out {0}", "-out {0}.crt").format(pem)
    subprocess.run(command.split(), check=True, capture_output=True)
    with serving(200) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{pem}.crt", pem)
        server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
        assert probe(Target(HOST, server.port, "/health", "https"), 2) == Answer(200)
        assert probe(Target(HOST, server.port, "/health"), 2).error == "no HTTP answer"


def test_a_slow_target_does_not_delay_the_others() -> None:
    with serving(200) as server, listening() as mute:
        begin = time.monotonic()
        targets = [Target(HOST, mute, "/health"), Target(HOST, server.port, "/health")]
        assert probe_all(targets, 0.2) == [Answer(0, probes.NO_ANSWER), Answer(200)]
        assert time.monotonic() - begin < 1


def test_a_look_up_that_hangs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "probe", lambda *_: time.sleep(2))
    begin = time.monotonic()
    assert probe_all([Target("x", 1)] * 3, 0.1) == [Answer(0, probes.NO_ANSWER)] * 3
    assert time.monotonic() - begin < 1
