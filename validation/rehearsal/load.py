"""Requests in the background, each with a deadline: what clients see while something happens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import requests

DEADLINE = 20.0  # seconds that a request may take
# Tokens of an answer. A streamed one is under way for a while, so that faults meet some of them.
TOKENS, STREAMED = 8, 64

NOBODY, LATE = 0, -1  # in place of a status
EMPTY = "an empty body"
CUT_SHORT = "ended like a whole answer, and is not one"
REPEATED = "has more tokens than asked for"


@dataclass(frozen=True)
class Seen:
    """One request: when it was sent, how long it took (seconds), and what came of it.

    `status`: of HTTP; 0 when nobody answered, -1 when the deadline passed. `ok`: a whole answer.
    """

    at: float
    seconds: float
    status: int
    ok: bool
    said: str = ""


def authorization(key: str) -> dict[str, str]:
    """The header that an API key is sent in; none without a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


class Load:
    """Sends a request every `interval` seconds until it is stopped, whether or not earlier ones are
    answered; every second one is streamed. Leaving it waits for those under way."""

    def __init__(self, url: str, model: str, key: str, interval: float) -> None:
        self._url, self._model, self._interval = url, model, interval
        self._headers = authorization(key)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._asking: dict[threading.Thread, float] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for thread in self._asking:
            thread.join()

    def seen(self) -> Sequence[Seen]:
        """What is answered, or is past its deadline."""
        with self._lock:
            return list(self._seen)

    def under_way(self) -> Sequence[Seen]:
        """What is not answered yet, as if it were now."""
        now = time.monotonic()
        with self._lock:
            asking = [at for thread, at in self._asking.items() if thread.is_alive()]
        return [Seen(at, now - at, 200, True) for at in asking]

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(self._interval):
            count += 1
            thread = threading.Thread(target=self._ask, args=(count,))
            thread.start()
            with self._lock:
                self._asking[thread] = time.monotonic()

    def _ask(self, count: int) -> None:
        send = ask_streamed if count % 2 else ask
        one = send(self._url, self._model, f"request {count}", self._headers)
        with self._lock:
            self._seen.append(one)


def ask(url: str, model: str, prompt: str, headers: dict[str, str]) -> Seen:
    """Send one completion and judge its answer."""

    def judged(answer: requests.Response) -> str:
        try:
            whole = bool(answer.json()["choices"])
        except (ValueError, LookupError, TypeError):
            whole = False
        return "" if whole else f"{CUT_SHORT}: {text}" if (text := answer.text.strip()) else EMPTY

    return _ask(url, {"model": model, "prompt": prompt, "max_tokens": TOKENS}, headers, judged)


def ask_streamed(url: str, model: str, prompt: str, headers: dict[str, str]) -> Seen:
    """Send one completion that is streamed, and judge its answer."""
    end = time.monotonic() + DEADLINE

    def judged(answer: requests.Response) -> str:
        return wrong_with(_until(end, answer.iter_lines()), STREAMED)

    body = {"model": model, "prompt": prompt, "max_tokens": STREAMED, "stream": True}
    return _ask(url, body, headers, judged)


def wrong_with(lines: Iterable[bytes], most: int) -> str:
    """What is wrong with a stream of events that ended as one does; empty when nothing is."""
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
    if tokens > most:
        return f"{REPEATED}: {tokens} of {most}"
    return "" if whole else f"{CUT_SHORT}: {tokens} tokens of {most}"


def _until(end: float, lines: Iterable[Any]) -> Iterable[bytes]:
    for line in lines:
        if time.monotonic() > end:
            raise requests.Timeout
        yield line


def _ask(
    url: str,
    body: dict[str, Any],
    headers: dict[str, str],
    judged: Callable[[requests.Response], str],
) -> Seen:
    begun = time.monotonic()
    status = NOBODY
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
            said = judged(answer) if status == 200 else answer.text
    except requests.RequestException as error:
        late = isinstance(error, requests.Timeout) or time.monotonic() - begun >= DEADLINE
        status, said = (LATE, f"no answer within {DEADLINE:g} s") if late else (status, str(error))
    return Seen(begun, time.monotonic() - begun, status, status == 200 and not said, said[:200])
