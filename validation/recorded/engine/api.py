"""The HTTP API, and the text of answers, which depends on the prompt alone."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engine.state import State, TransferFailed

TOKEN = 0.01  # seconds for a token
LETTERS = "abcdefghijklmnopqrstuvwxyz "


class BadRequest(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True
    state: State


def bind(state: State) -> Server:
    """Bind the API's port, without listening. Raises OSError if it is in use.

    Like vLLM, it refuses connections until the server is ready, so that no client waits for a
    server that itself waits (vllm 0.13.0: entrypoints/openai/api_server.py, create_server_socket).
    """
    address = (state.options.host, state.options.port)
    server = Server(address, Handler, bind_and_activate=False)
    server.server_bind()
    server.state = state
    return server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Server

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        state = self.server.state
        if self.path == "/health":
            self._send(200, b"")
        elif self.path == "/metrics":
            name = state.options.names[0]
            lines = [f'vllm:{k}_total{{model_name="{name}"}} {v}' for k, v in state.counts.items()]
            self._send(200, ("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4")
        elif self.path == "/v1/models":
            about = {"object": "model", "max_model_len": state.options.longest}
            models = [{"id": name, **about} for name in state.options.names]
            self._json(200, {"object": "list", "data": models})
        else:
            self._json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._answer(raw)
        except BadRequest as bad:
            error = {"message": bad.message, "type": "BadRequestError", "code": bad.status}
            self._json(bad.status, {"error": error})

    def _answer(self, raw: bytes) -> None:
        state = self.server.state
        key = state.options.key
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            raise BadRequest(401, "Unauthorized")
        chat = self.path == "/v1/chat/completions"
        if not chat and self.path != "/v1/completions":
            raise BadRequest(404, "Not Found")
        try:
            asked = json.loads(raw)
        except ValueError as error:
            raise BadRequest(400, f"not JSON: {error}") from None
        if state.broken.is_set():
            threading.Thread(target=_die, args=(state,), daemon=True).start()
            raise BadRequest(500, "EngineCore encountered an issue")
        request = Request(asked, chat, state)
        told = self._transfer(request, state)
        state.count(prompt_tokens=request.tokens, generation_tokens=len(request.text))
        if request.streams:
            self._stream(request)
        else:
            self._json(200, {**request.whole(), **({"kv_transfer_params": told} if told else {})})

    def _transfer(self, request: Request, state: State) -> dict[str, Any] | None:
        """Keep the prompt on the prefill side, and fetch it on the decode side."""
        told = request.transfer
        if not told:
            return None
        if told.get("do_remote_decode"):
            if state.role == "kv_consumer":
                raise BadRequest(400, "a decode server cannot prefill")
            if request.most != 1 or request.streams:
                raise BadRequest(400, "a prefill has one token and no stream")
            return state.keep(request.tokens)
        if told.get("do_remote_prefill"):
            if state.role == "kv_producer":
                raise BadRequest(400, "a prefill server cannot fetch a prompt")
            try:
                state.fetch(told, request.tokens)
            except TransferFailed as error:
                raise BadRequest(500, str(error)) from None
        return None

    def _stream(self, request: Request) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in request.events():
                if self.server.state.broken.is_set():
                    self.close_connection = True
                    return
                data = f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n"
                self.wfile.write(f"{len(data):x}\r\n{data}\r\n".encode())
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _json(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Request:
    """A validated request and its answer. A token is a character."""

    def __init__(self, asked: Any, chat: bool, state: State) -> None:
        if not isinstance(asked, dict):
            raise BadRequest(400, "the body is not a JSON object")
        self.chat, self.asked = chat, asked
        self.model = asked.get("model") or state.options.names[0]
        if self.model not in state.options.names:
            raise BadRequest(404, f"The model `{self.model}` does not exist.")
        prompt = asked.get("messages" if chat else "prompt")
        if not prompt:
            raise BadRequest(400, f"{'messages' if chat else 'prompt'} is missing")
        said = json.dumps(prompt) if chat or not isinstance(prompt, str) else prompt
        self.tokens = len(prompt if isinstance(prompt, list) and not chat else said)
        most = asked.get("max_completion_tokens") or asked.get("max_tokens", 16)
        if not isinstance(most, int) or most < 1:
            raise BadRequest(400, f"max_tokens must be at least 1, got {most}")
        if self.tokens + most > state.options.longest:
            raise BadRequest(400, f"This model's maximum context length is {state.options.longest}")
        self.most = most
        self.streams = bool(asked.get("stream"))
        transfer = asked.get("kv_transfer_params")
        self.transfer: dict[str, Any] = transfer if isinstance(transfer, dict) else {}
        self.text, self.reason = answer(said, most), "length"
        for stop in _list(asked.get("stop")):
            if stop in self.text:
                self.text, self.reason = self.text[: self.text.index(stop)], "stop"

    @property
    def usage(self) -> dict[str, int]:
        size = max(len(self.text), 1)
        return {
            "prompt_tokens": self.tokens,
            "completion_tokens": size,
            "total_tokens": self.tokens + size,
        }

    def whole(self) -> dict[str, Any]:
        time.sleep(TOKEN)
        said = {"message": {"role": "assistant", "content": self.text}}
        choice: dict[str, Any] = said if self.chat else {"text": self.text}
        return self._about([{**choice, "index": 0, "finish_reason": self.reason}], self.usage)

    def events(self) -> Iterator[Any]:
        for number, letter in enumerate(self.text):
            time.sleep(TOKEN)
            last = self.reason if number == len(self.text) - 1 else None
            said = {"delta": {"role": "assistant", "content": letter}}
            choice: dict[str, Any] = said if self.chat else {"text": letter}
            yield self._about([{**choice, "index": 0, "finish_reason": last}])
        if (self.asked.get("stream_options") or {}).get("include_usage"):
            yield self._about([], self.usage)
        yield "[DONE]"

    def _about(self, choices: list[Any], usage: dict[str, int] | None = None) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        about = {"id": "recorded", "object": kind, "created": 0, "model": self.model}
        return {**about, "choices": choices, **({"usage": usage} if usage else {})}


def answer(prompt: str, number: int) -> str:
    """A text of that many letters: a prefix of one long text for each prompt."""
    letters, block = "", prompt.encode()
    while len(letters) < number:
        block = hashlib.sha256(block).digest()
        letters += "".join(LETTERS[byte % len(LETTERS)] for byte in block)
    return letters[:number]


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _die(state: State) -> None:
    """End the server after a few more requests, as after the loss of a rank."""
    time.sleep(2)
    state.ended.put(1)
