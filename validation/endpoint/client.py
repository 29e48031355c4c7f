"""One OpenAI-compatible endpoint over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from common.errors import EX_DATAERR, EX_UNAVAILABLE, did_you_mean, user_error


@dataclass(frozen=True)
class Answer:
    """A complete answer. `body`: its parsed JSON, or None."""

    status: int
    media_type: str
    body: Any
    text: str


@dataclass
class Stream:
    """A streamed answer: its events, and whether `[DONE]` ended them."""

    status: int
    media_type: str
    events: list[Any] = field(default_factory=list)
    done: bool = False
    text: str = ""


class Endpoint:
    """An endpoint; its URL may end with `/v1`. `timeout` in seconds."""

    def __init__(
        self, url: str, key: str = "", timeout: float = 60, certificates: str = ""
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise user_error("URL", f"'{url}' is not a URL", "give http://HOST:PORT")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # HTTP proxies are not for the cluster
        self._session.verify = certificates or True
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str) -> Answer:
        """Raises UserError (69) if the endpoint does not answer."""
        return self._answer(self._request("GET", path))

    def post(self, path: str, body: Mapping[str, Any] | bytes) -> Answer:
        """Send JSON, or bytes unchanged. Raises UserError (69) if the endpoint does not answer."""
        return self._answer(self._request("POST", path, _encoded(body)))

    def stream(self, path: str, body: Mapping[str, Any]) -> Stream:
        """Send JSON and read server-sent events until the connection ends.

        Raises UserError (69) if the endpoint does not answer or the stream breaks off.
        """
        response = self._request("POST", path, _encoded(body), stream=True)
        answer = Stream(response.status_code, _media_type(response))
        try:
            if answer.status != 200:
                answer.text = response.text
                return answer
            for data in _events(response):
                if data == "[DONE]":
                    answer.done = True
                else:
                    answer.events.append(json.loads(data))
        except (requests.RequestException, ValueError) as error:
            raise user_error(
                f"{self.url}{path}",
                f"the stream broke off after {len(answer.events)} events: {error}",
                "see the server's log",
                EX_UNAVAILABLE,
            ) from None
        finally:
            response.close()
        return answer

    def served_model(self, model: str = "") -> str:
        """Check that the endpoint serves the model; by default, its first one.

        Raises UserError: 69 if the endpoint does not answer, 65 if it serves other models.
        """
        answer = self.get("/v1/models")
        if answer.status == 404 and model:
            return model  # a proxy may have no list
        if answer.status != 200:
            fix = "is the key the server's?" if answer.status in (401, 403) else "is it ready?"
            what = f"/v1/models answers {answer.status}"
            raise user_error(self.url, what, fix, EX_UNAVAILABLE)
        listed = answer.body.get("data", []) if isinstance(answer.body, dict) else []
        names = [str(one.get("id")) for one in listed if isinstance(one, dict)]
        if model and model not in names:
            hint = did_you_mean(model, names)
            raise user_error("--model", f"{model} is not served there", hint, EX_DATAERR)
        if not names:
            raise user_error(self.url, "/v1/models lists no model", exit_code=EX_DATAERR)
        return model or names[0]

    def _request(
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
        return "refuses the connection or is unreachable"
    return str(error)
