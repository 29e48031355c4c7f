"""Send requests in the background, each with a deadline, and record what clients see."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import requests

DEADLINE = 20.0  # seconds for a request
# Tokens of an answer. Streamed answers are long, so that faults hit some of them.
TOKENS, STREAMED = 8, 64

NO_CONNECTION, LATE = 0, -1  # instead of an HTTP status
EMPTY = "an empty body"
CUT_SHORT = "ended normally, but is incomplete"
REPEATED = "has more tokens than requested"


@dataclass(frozen=True)
class Attempt:
    """One request: when it was sent (time.monotonic), how many seconds it took, and its result.

    `status`: of HTTP, NO_CONNECTION or LATE. `ok`: the answer is complete. `said`: what is wrong.
    The field names are the keys of `--format json`.
    """

    at: float
    seconds: float
    status: int
    ok: bool
    said: str = ""


def authorization(key: str) -> dict[str, str]:
    """The header for an API key; empty without one."""
    return {"Authorization": f"Bearer {key}"} if key else {}


class LoadGenerator:
    """Sends a request every `interval` seconds, whether or not earlier ones are answered.

    Every second one is streamed. Leaving the context waits for pending requests.
    """

    def __init__(self, url: str, model: str, key: str, interval: float) -> None:
        self._url, self._model, self._interval = url, model, interval
        self._headers = authorization(key)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._results: list[Attempt] = []
        self._pending: dict[threading.Thread, float] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> LoadGenerator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for thread in self._pending:
            thread.join()

    def results(self) -> Sequence[Attempt]:
        """Requests that are answered, or past their deadline."""
        with self._lock:
            return list(self._results)

    def pending(self) -> Sequence[Attempt]:
        """Requests without an answer, as if they were answered now."""
        now = time.monotonic()
        with self._lock:
            sent = [at for thread, at in self._pending.items() if thread.is_alive()]
        return [Attempt(at, now - at, 200, True) for at in sent]

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(self._interval):
            count += 1
            thread = threading.Thread(target=self._request, args=(count,))
            thread.start()
            with self._lock:
                self._pending[thread] = time.monotonic()

    def _request(self, count: int) -> None:
        send = ask_streamed if count % 2 else ask
        result = send(self._url, self._model, f"request {count}", self._headers)
        with self._lock:
            self._results.append(result)


def ask(url: str, model: str, prompt: str, headers: dict[str, str]) -> Attempt:
    """Request a completion and check the answer."""

    def check(answer: requests.Response) -> str:
        try:
            complete = bool(answer.json()["choices"])
        except (ValueError, LookupError, TypeError):
            complete = False
        return (
            "" if complete else f"{CUT_SHORT}: {text}" if (text := answer.text.strip()) else EMPTY
        )

    return _request(url, {"model": model, "prompt": prompt, "max_tokens": TOKENS}, headers, check)


def ask_streamed(url: str, model: str, prompt: str, headers: dict[str, str]) -> Attempt:
    """Request a streamed completion and check the answer."""
    end = time.monotonic() + DEADLINE

    def check(answer: requests.Response) -> str:
        return stream_error(_before(end, answer.iter_lines()), STREAMED)

    body = {"model": model, "prompt": prompt, "max_tokens": STREAMED, "stream": True}
    return _request(url, body, headers, check)


def stream_error(lines: Iterable[bytes], max_tokens: int) -> str:
    """What is wrong with a stream that ended normally; empty if nothing is."""
    tokens, whole, any_line = 0, False, False
    for line in filter(None, lines):
        any_line = True
        text = line.decode(errors="replace").removeprefix("data: ")
        if text == "[DONE]":
            break
        try:
            event = json.loads(text)
            choices = event.get("choices") or []
        except (ValueError, AttributeError):
            return text
        if "error" in event:
            return text
        tokens += bool(choices and choices[0].get("text"))
        whole = whole or bool(choices and choices[0].get("finish_reason"))
    if not any_line:
        return EMPTY
    if tokens > max_tokens:
        return f"{REPEATED}: {tokens} of {max_tokens}"
    return "" if whole else f"{CUT_SHORT}: {tokens} tokens of {max_tokens}"


def _before(end: float, lines: Iterable[Any]) -> Iterable[bytes]:
    for line in lines:
        if time.monotonic() > end:
            raise requests.Timeout
        yield line


def _request(
    url: str,
    body: dict[str, Any],
    headers: dict[str, str],
    check: Callable[[requests.Response], str],
) -> Attempt:
    begun = time.monotonic()
    status = NO_CONNECTION
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"{url}/v1/completions",
                json=body,
                headers=headers,
                timeout=DEADLINE,
                stream=bool(body.get("stream")),
            )
            status = answer.status_code
            said = check(answer) if status == 200 else answer.text
    except requests.RequestException as error:
        late = isinstance(error, requests.Timeout) or time.monotonic() - begun >= DEADLINE
        status, said = (LATE, f"no answer within {DEADLINE:g} s") if late else (status, str(error))
    return Attempt(begun, time.monotonic() - begun, status, status == 200 and not said, said[:200])
