"""What a fault's requests come to, and how an answer is judged."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from validation.rehearsal import load_generator
from validation.rehearsal.fault_outcome import FaultOutcome, assess, recovery_time
from validation.rehearsal.load_generator import (
    CUT_SHORT,
    EMPTY,
    LATE,
    NO_CONNECTION,
    REPEATED,
    Attempt,
    LoadGenerator,
    ask,
    ask_streamed,
)

BEGUN = 100.0


def answered(at: float, seconds: float = 0.1) -> Attempt:
    return Attempt(at, seconds, 200, True)


def steady(since: float) -> list[Attempt]:
    return [answered(since + 0.25 * n) for n in range(8)]


def judged(*seen: Attempt) -> FaultOutcome:
    return assess("a fault", "killed", ("decode-0",), seen, BEGUN)


def test_requests_before_the_fault_do_not_count_unless_it_meets_them() -> None:
    found = judged(
        Attempt(90.0, 1.0, 500, False),
        Attempt(99.5, 1.0, 200, False, "broken"),
        *steady(101),
    )
    assert (found.sent, found.failed) == (9, 1)
    assert found.statuses == {"200 and broken off": 1}


def test_it_serves_again_with_the_first_answer_after_the_last_disturbed_request() -> None:
    seen = [
        Attempt(100.5, 0.1, 500, False),
        Attempt(103.0, 0.1, NO_CONNECTION, False),
        *steady(104.0),
    ]
    assert recovery_time(seen, BEGUN) == pytest.approx(4.1)
    assert judged(*seen).good


def test_a_late_answer_is_a_disturbance_and_no_failure() -> None:
    usual = [answered(95.0 + n, 0.5) for n in range(3)]
    found = judged(*usual, answered(100.5, 5.0), *steady(106.0))
    assert found.failed == 0
    assert found.after == pytest.approx(6.1)
    assert recovery_time([*usual, answered(100.5, 1.9), *steady(106.0)], BEGUN) == 0.0


def test_a_request_that_hangs_does_not_delay_the_others() -> None:
    found = judged(Attempt(100.1, 20.0, LATE, False), *steady(101.0))
    assert found.after == pytest.approx(1.1)
    assert found.hung == 1
    assert not found.good


def test_while_a_late_one_is_under_way_it_does_not_serve_again() -> None:
    seen = steady(101.0)
    assert recovery_time(seen, BEGUN, [answered(102.8, 0.2)]) == 0.0
    assert recovery_time(seen, BEGUN, [answered(102.7, 9.0)]) is None


def test_too_few_answers_are_no_recovery() -> None:
    found = judged(Attempt(100.5, 0.1, 500, False), *steady(101)[:3])
    assert found.after is None
    assert not found.good
    assert "did not serve again" in str(found)


@pytest.mark.parametrize(
    ("seen", "count", "words"),
    [
        (Attempt(101, 1, 200, False, EMPTY), "empty", "1 with 200 and nothing"),
        (Attempt(101, 1, 200, False, f"{CUT_SHORT}: 3"), "wrong", "1 with 200 and cut short"),
        (
            Attempt(101, 1, 200, False, f"{REPEATED}: 9"),
            "wrong",
            "1 with 200 and repetitions",
        ),
        (Attempt(101, 20, LATE, False), "hung", "1 with no answer in time"),
    ],
)
def test_what_is_not_honest_is_a_failure(seen: Attempt, count: str, words: str) -> None:
    found = judged(seen, *steady(102))
    assert getattr(found, count) == 1
    assert not found.good
    assert words in str(found)


ANSWERS = {
    "whole": b'{"choices": [{"text": "x"}]}',
    "nothing": b"",
    "half": b'{"choices": [',
}
EVENT = {"choices": [{"text": "x", "finish_reason": None}]}
LAST = {"choices": [{"text": "x", "finish_reason": "length"}]}
STREAMS: dict[str, list[Any]] = {
    "whole": [EVENT, LAST, "[DONE]"],
    "nothing": [],
    "half": [EVENT, EVENT],
    "twice": [EVENT] * load_generator.STREAMED + [LAST, "[DONE]"],
    "error": [EVENT, {"error": {"message": "dead"}}, "[DONE]"],
    "broken": [EVENT, None],
    "late": [EVENT, 0.3, EVENT, 0.3, EVENT, LAST],
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200 if asked["prompt"] != "unsupported" else 503)
        if not asked.get("stream"):
            body = ANSWERS.get(asked["prompt"], b"no server")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in STREAMS[asked["prompt"]]:
            if event is None:
                self.close_connection = True
                return
            if isinstance(event, float):
                time.sleep(event)
                continue
            text = event if isinstance(event, str) else json.dumps(event)
            data = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("prompt", "status", "said"),
    [
        ("whole", 200, ""),
        ("nothing", 200, EMPTY),
        ("half", 200, f"{CUT_SHORT}: {{"),
        ("unsupported", 503, "no server"),
    ],
)
def test_an_answer(url: str, prompt: str, status: int, said: str) -> None:
    found = ask(url, "m", prompt, {})
    assert (found.status, found.ok) == (status, prompt == "whole")
    assert found.said.startswith(said)
    assert bool(found.said) == bool(said)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("whole", ""),
        ("nothing", EMPTY),
        ("half", f"{CUT_SHORT}: 2 tokens of 64"),
        ("twice", f"{REPEATED}: 65 of 64"),
        ("error", '{"error"'),
        ("broken", ""),
    ],
)
def test_a_streamed_answer(url: str, prompt: str, said: str) -> None:
    found = ask_streamed(url, "m", prompt, {})
    assert found.status == 200
    assert found.ok == (prompt == "whole")
    assert found.said.startswith(said)
    assert not (prompt == "broken" and found.said.startswith((CUT_SHORT, EMPTY)))


def test_a_deadline_is_for_the_whole_stream(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "DEADLINE", 0.5)
    assert ask_streamed(url, "m", "late", {}).status == LATE


def test_nobody_answers() -> None:
    assert ask("http://127.0.0.1:9", "m", "whole", {}).status == NO_CONNECTION


def test_requests_are_sent_whether_or_not_earlier_ones_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()

    def stuck(url: str, model: str, prompt: str, headers: dict[str, str]) -> Attempt:
        go.wait(10)
        return answered(time.monotonic())

    monkeypatch.setattr(load_generator, "ask", stuck)
    monkeypatch.setattr(load_generator, "ask_streamed", stuck)
    with LoadGenerator("http://x", "m", "", interval=0.01) as sent:
        while len(sent.pending()) < 3:
            time.sleep(0.01)
        assert sent.results() == []
        go.set()
    assert len(sent.results()) >= 3
    assert sent.pending() == []
