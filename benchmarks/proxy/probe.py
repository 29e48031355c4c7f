"""A client that checks whether every answer is complete, its own, and not buffered."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from benchmarks.proxy.cases import EVENTS

INTERVAL = 0.1  # seconds between two probes
TIMEOUT = 30.0  # seconds until a stream counts as buffered
WORKERS = 32
TO_DECODE = {"do_remote_decode": True, "do_remote_prefill": False}


@dataclass
class Client:
    """Requests completions at `port`; with `two`, does both hops. `servers`: opens gated
    streams."""

    port: int
    servers: int
    two: bool
    connection: HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def whole(self, word: str, filling: str = "") -> None:
        """Raises ValueError when the answer is incomplete or another request's."""
        answer = json.loads(self._ask(word, filling, False).read())
        if answer["choices"][0]["text"] != word:
            raise ValueError(f"{word} got {answer}")

    def stream(self, word: str, filling: str = "") -> float:
        """Seconds to the first event; the servers send the second one only after it has arrived.
        Raises OSError when it does not arrive, ValueError when the rest is incomplete.
        """
        begun = time.monotonic()
        answer = self._ask(word, filling, True)
        events = [answer.readline()]
        first = time.monotonic() - begun
        if word.startswith("gated"):
            get(self.servers, f"/open/{word}")
        events += [line for line in answer.read().splitlines() if line]
        chunks = [json.loads(one[len(b"data: ") :]) for one in events[:-1]]
        text = "".join(one["choices"][0]["text"] for one in chunks)
        if (len(chunks), text, events[-1]) != (EVENTS, word, b"data: [DONE]"):
            raise ValueError(f"{word} got {events}")
        return first

    def _ask(self, word: str, filling: str, stream: bool) -> HTTPResponse:
        prompt = f"{word} {filling}"
        body: dict[str, Any] = {"model": "qwen3", "prompt": prompt}
        if self.two:
            first = {**body, "max_tokens": 1, "kv_transfer_params": TO_DECODE}
            answer = json.loads(self._post(first, word).read())
            body["kv_transfer_params"] = answer["kv_transfer_params"]
        return self._post({**body, "max_tokens": EVENTS, "stream": stream}, word)

    def _post(self, body: dict[str, Any], word: str) -> HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if self.two:
            headers["X-Request-Id"] = word
        self.connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = self.connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"status {answer.status}: {answer.read()[:200]!r}")
        return answer


class Probe:
    """Requests gated streams, one at a time, until the context ends."""

    def __init__(self, port: int, servers: int, two: bool) -> None:
        self._place = port, servers, two
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.first: list[float] = []
        self.wrong: list[str] = []

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        client = Client(*self._place)
        while not self._stop.wait(INTERVAL):
            try:
                first = client.stream(f"gated-{uuid.uuid4().hex}")
            except (OSError, HTTPException, ValueError) as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                client = Client(*self._place)
            else:
                if not self._stop.is_set():  # else the load has ended before
                    self.first.append(first)


def many(port: int, servers: int, two: bool, number: int, filling: str) -> Sequence[str]:
    """Request `number` completions, half of them streams; return every error."""
    run = uuid.uuid4().hex

    def some(worker: int) -> list[str]:
        client, wrong = Client(port, servers, two), []
        for one in range(worker, number, WORKERS):
            ask = client.stream if one % 2 else client.whole
            try:
                ask(f"{run}-{one}", filling)
            except (OSError, HTTPException, ValueError) as error:
                wrong.append(f"{type(error).__name__}: {error}")
                client = Client(port, servers, two)
        return wrong

    with ThreadPoolExecutor(WORKERS) as pool:
        return [one for found in pool.map(some, range(WORKERS)) for one in found]


def get(port: int, path: str) -> Any:
    """What the servers answer to a GET. Raises OSError."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
