"""Requests in the background, each with a deadline: what clients see while something happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests

DEADLINE = 20.0  # seconds that a request may take
TOKENS = 8
EMPTY = "an empty body"


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


class Load:
    """Sends a request every `interval` seconds from `workers` threads until it is stopped."""

    def __init__(
        self, url: str, model: str, key: str = "", workers: int = 2, interval: float = 0.25
    ) -> None:
        self._url, self._model, self._interval = url, model, interval
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(workers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def seen(self, since: float = 0.0) -> Sequence[Seen]:
        """What was sent at `since` (time.monotonic) or later."""
        with self._lock:
            return [one for one in self._seen if one.at >= since]

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.wait(self._interval):
            count += 1
            one = ask(self._url, self._model, f"request {number}.{count}", self._headers)
            with self._lock:
                self._seen.append(one)


def ask(url: str, model: str, prompt: str, headers: dict[str, str]) -> Seen:
    """Send one completion and judge its answer."""
    begun = time.monotonic()
    body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": TOKENS}
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"{url}/v1/completions", json=body, headers=headers, timeout=DEADLINE
            )
    except requests.Timeout:
        return _seen(begun, -1, f"no answer within {DEADLINE:g} s")
    except requests.RequestException as error:
        return _seen(begun, 0, str(error))
    if answer.status_code != 200:
        return _seen(begun, answer.status_code, answer.text)
    try:
        whole = bool(answer.json()["choices"])
    except (ValueError, LookupError, TypeError):
        whole = False
    return _seen(begun, 200, "" if whole else answer.text or EMPTY, whole)


def _seen(begun: float, status: int, said: str, ok: bool = False) -> Seen:
    return Seen(begun, time.monotonic() - begun, status, ok, said[:200])
