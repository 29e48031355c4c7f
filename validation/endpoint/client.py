"""One OpenAI-compatible endpoint over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from common.errors import EX_UNAVAILABLE, user_error


@dataclass(frozen=True)
class Answer:
    """A whole answer. `body` is what its JSON says, or None."""

    status: int
    media_type: str
    body: Any
    text: str


@dataclass
class Stream:
    """A streamed answer: its events as they come, and whether `[DONE]` ended them."""

    status: int
    media_type: str
    events: list[Any] = field(default_factory=list)
    done: bool = False
    text: str = ""


class Endpoint:
    """An endpoint by its address, with or without `/v1` at its end. `timeout` in seconds."""

    def __init__(
        self, url: str, key: str = "", timeout: float = 60, certificates: str = ""
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise user_error("URL", f"'{url}' is no address", "give http://HOST:PORT")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy for the way out is not one for this cluster
        self._session.verify = certificates or True
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str) -> Answer:
        """Raises UserError (69) when nobody answers."""
        return self._answer(self._ask("GET", path))

    def post(self, path: str, body: Mapping[str, Any] | bytes) -> Answer:
        """Sends JSON, or bytes as they are. Raises UserError (69) when nobody answers."""
        return self._answer(self._ask("POST", path, _encoded(body)))

    def stream(self, path: str, body: Mapping[str, Any]) -> Stream:
        """Sends JSON and reads server-sent events until the connection ends.

        Raises UserError (69) when nobody answers, or the stream breaks off.
        """
        response = self._ask("POST", path, _encoded(body), stream=True)
        made = Stream(response.status_code, _media_type(response))
        try:
            if made.status != 200:
                made.text = response.text
                return made
            for data in _events(response):
                if data == "[DONE]":
                    made.done = True
                else:
                    made.events.append(json.loads(data))
        except (requests.RequestException, ValueError) as error:
            raise user_error(
                f"{self.url}{path}",
                f"the stream broke off after {len(made.events)} events: {error}",
                "look at the server's log",
                EX_UNAVAILABLE,
            ) from None
        finally:
            response.close()
        return made

    def _ask(
        self, method: str, path: str, body: bytes | None = None, stream: bool = False
    ) -> requests.Response:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            return self._session.request(
                method,
                f"{self.url}{path}",
                data=body,
                headers=headers,
                timeout=self.timeout,
                stream=stream,
            )
        except requests.RequestException as error:
            why = _reason(error, self.timeout)
            raise user_error(
                f"{self.url}{path}", why, "is the server up?", EX_UNAVAILABLE
            ) from None

    def _answer(self, response: requests.Response) -> Answer:
        try:
            body = response.json()
        except ValueError:
            body = None
        return Answer(response.status_code, _media_type(response), body, response.text)


def _encoded(body: Mapping[str, Any] | bytes) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _media_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()


def _events(response: requests.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if line.startswith(b"data:"):
            yield line[5:].strip().decode()


def _reason(error: requests.RequestException, timeout: float) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} s"
    if isinstance(error, requests.ConnectionError):
        return "refuses the connection or is not there"
    return str(error)
