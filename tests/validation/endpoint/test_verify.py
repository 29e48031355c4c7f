"""Verification against a server that answers as vLLM does, and against ones that each err once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from common.errors import UserError
from validation.endpoint import verify as checks
from validation.endpoint.client import Endpoint
from validation.endpoint.verify import CHECKS, verify

TEXT = " bright, and full of light."
LONGEST = 64


class Server:
    """An OpenAI-compatible server; `spoil` may change what it answers.

    spoil(path, request, status, body) → status, body; a body of bytes goes out as it is.
    """

    def __init__(self, spoil: Callable[..., tuple[int, Any]] | None = None) -> None:
        self.spoil = spoil or (lambda path, asked, status, body: (status, body))
        self.keys: set[str | None] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self._send(*outer.spoil(self.path, None, *outer.get(self.path)))

            def do_POST(self) -> None:
                outer.keys.add(self.headers.get("Authorization"))
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    asked = json.loads(raw)
                except ValueError:
                    asked = None
                self._send(*outer.spoil(self.path, asked, *outer.post(self.path, asked)))

            def _send(self, status: int, body: Any) -> None:
                events = isinstance(body, list)
                if events:
                    lines = [one if isinstance(one, str) else json.dumps(one) for one in body]
                    data = "".join(f"data: {line}\n\n" for line in lines).encode()
                else:
                    data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                kind = "text/event-stream; charset=utf-8" if events else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            return 200, b""
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "qwen3", "max_model_len": LONGEST}]}
        return 404, {"detail": "Not Found"}

    def post(self, path: str, asked: Any) -> tuple[int, Any]:
        if not isinstance(asked, dict):
            return 400, {"error": {"message": "no JSON"}}
        if asked.get("model") != "qwen3":
            return 404, {"error": {"message": "The model does not exist."}}
        if "prompt" not in asked and "messages" not in asked:
            return 400, {"error": {"message": "a prompt is missing"}}
        if asked["max_tokens"] < 1 or len(asked.get("prompt", "")) > LONGEST:
            return 400, {"error": {"message": "out of range"}}
        text, reason = TEXT[: asked["max_tokens"]], "length"
        for word in asked.get("stop", ()):
            if word in text:
                text, reason = text[: text.index(word)], "stop"
        size = max(len(text), 1)
        usage = {"prompt_tokens": 5, "completion_tokens": size, "total_tokens": 5 + size}
        chat = path == "/v1/chat/completions"
        if asked.get("stream"):
            return 200, [*_chunks(text, reason, chat), {"choices": [], "usage": usage}, "[DONE]"]
        message = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return 200, {"choices": [{**message, "finish_reason": reason}], "usage": usage}


def _chunks(text: str, reason: str, chat: bool) -> Iterator[dict[str, Any]]:
    for number, character in enumerate(text):
        delta = {"role": "assistant", "content": character}
        said: dict[str, Any] = {"delta": delta} if chat else {"text": character}
        last = number == len(text) - 1
        yield {"choices": [{**said, "finish_reason": reason if last else None}]}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers = []

    def started(spoil: Callable[..., tuple[int, Any]] | None = None) -> Server:
        servers.append(Server(spoil))
        return servers[-1]

    yield started
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


def test_a_good_endpoint_passes_every_check(serve: Callable[..., Server]) -> None:
    server = serve()
    results = list(verify(Endpoint(server.url + "/v1/", key="secret")))
    assert {result.name: result.state for result in results} == {name: "ok" for name, _ in CHECKS}
    assert server.keys == {"Bearer secret"}
    assert checks.summary_text(results) == "all passed"
    assert checks.results_data(results)["failed"] is False


def _at(path: str, change: Callable[[int, Any], tuple[int, Any]], stream: bool = False) -> Any:
    def spoil(where: str, asked: Any, status: int, body: Any) -> tuple[int, Any]:
        streams = isinstance(asked, dict) and bool(asked.get("stream"))
        return change(status, body) if where == path and streams == stream else (status, body)

    return spoil


def _status(old: int, new: int) -> Callable[[int, Any], tuple[int, Any]]:
    return lambda status, body: (new if status == old else status, body)


def _only(condition: Callable[[Any], bool], status: int, body: Any) -> Any:
    def spoil(where: str, asked: Any, old: int, answer: Any) -> tuple[int, Any]:
        return (status, body) if condition(asked) else (old, answer)

    return spoil


GOOD = "/v1/completions"
SPOILT = {
    "health": _at("/health", _status(200, 503)),
    "models": _at("/v1/models", lambda status, body: (200, {"data": []})),
    # HTTP 200 with an empty body, as an example proxy answers when a decode server is gone.
    "completion": _at(GOOD, lambda status, body: (200, b"") if status == 200 else (status, body)),
    "chat": _at("/v1/chat/completions", lambda status, body: (status, {"choices": []})),
    "streamed completion": _at(GOOD, lambda status, body: (status, body[:-1]), stream=True),
    "streamed chat": _at(
        "/v1/chat/completions",
        lambda status, body: (status, [*body[:5], {"error": "gone"}, "[DONE]"]),
        stream=True,
    ),
    "length": _only(
        lambda asked: isinstance(asked, dict) and asked.get("max_tokens") == 1,
        200,
        {
            "choices": [{"text": "ab", "finish_reason": "length"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        },
    ),
    "stop": _only(
        lambda asked: isinstance(asked, dict) and "stop" in asked,
        200,
        {"choices": [{"text": TEXT, "finish_reason": "length"}]},
    ),
    "error: unknown model": _at(GOOD, _status(404, 500)),
    "error: no JSON": _only(lambda asked: asked is None, 500, {"error": {"message": "bug"}}),
    "error: bad value": _at(
        GOOD, lambda status, body: (status, b"") if status == 400 else (status, body)
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_spoilt_fails_by_its_name(name: str, serve: Callable[..., Server]) -> None:
    results = {one.name: one for one in verify(Endpoint(serve(SPOILT[name]).url, timeout=5))}
    assert results[name].state == "failed"
    assert results[name].message


def test_a_proxy_without_health_and_models_is_verified_with_the_models_name(
    serve: Callable[..., Server],
) -> None:
    gone = _only(lambda asked: asked is None, 404, {"detail": "Not Found"})
    results = list(verify(Endpoint(serve(gone).url), "qwen3"))
    states = {result.name: result.state for result in results}
    assert states["health"] == states["models"] == states["error: too long"] == "skipped"
    assert states["completion"] == "ok"


def test_another_model_than_the_served_one_is_named(serve: Callable[..., Server]) -> None:
    results = {one.name: one for one in verify(Endpoint(serve().url), "qwen")}
    assert results["models"].message == "qwen is not served; did you mean qwen3?"


def test_nobody_there_is_one_error() -> None:
    with pytest.raises(UserError, match="is unreachable") as error:
        list(verify(Endpoint("http://127.0.0.1:9")))
    assert error.value.exit_code == 69


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(UserError, match="http://HOST:PORT"):
        Endpoint("10.0.0.1:8000")
