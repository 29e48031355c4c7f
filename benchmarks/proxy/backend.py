"""Prefill and decode servers of minimal cost in one process; they check the hand-over strictly.

backend.py PORT=SIDE…       SIDE is prefill, decode, or both (for a client that does both hops)

Each prefill is kept under its own id. A decode must name that id and its address, and repeat the
prompt; a prefill can be fetched once. The answer's text is the first word of the prompt, so that a
client recognizes its answer. A stream has EVENTS events, each written in its own turn of the event
loop. /tokenize answers as vLLM does, with a token for four characters. Any other path is counted
and answers 404, including /v1/completions/render, which vllm-router 0.1.17 requests and vLLM 0.13
does not have. The stream for a prompt that starts with `gated` stops after the first event until
/open/WORD is requested: a proxy that buffers the stream never gets its end.

GET /counts returns the counts since the last /counts?reset=RUN; `kept`: waiting prompts that start
with RUN, `gone`: streams whose reader left. Runs with the image's Python: uvloop, httptools and
msgspec are dependencies of vLLM.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections import Counter
from functools import partial
from typing import Any

import httptools  # type: ignore[import-not-found]
import msgspec  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found]

EVENTS = 16
TOKEN = 4  # characters
BLOCK = 128 * TOKEN  # characters of a block of 128 tokens, the size on Ascend
HOST = "127.0.0.1"


class Asked(msgspec.Struct):  # type: ignore[misc]
    prompt: str
    max_tokens: int = 16
    stream: bool = False
    kv_transfer_params: dict[str, Any] | None = None


class Refused(Exception):
    """What is wrong with a request; the client gets it with status 400."""


DECODER = msgspec.json.Decoder(Asked)


class State:
    """What all ports share: the waiting prompts, and the counts."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, str]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.numbers = itertools.count()
        self.reset()

    def reset(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.elsewhere: Counter[str] = Counter()
        self.prompts: set[str] = set()
        self.ids: dict[str, set[str]] = {"prefill": set(), "decode": set()}
        # What was kept before can still be fetched, by a proxy whose client has left.
        self.kept, self.before = {}, self.kept

    def report(self, run: str) -> bytes:
        kept = sum(prompt.startswith(run) for prompt, _ in self.kept.values())
        counts = {name: self.counts[name] for name in ("prefill", "decode", "gone")}
        again = {name: self.counts[f"{name} again"] for name in ("prompt", "id")}
        again["other id"] = self.counts["other id"]
        more = {"refused": self.refused, "elsewhere": self.elsewhere, "kept": kept}
        return bytes(msgspec.json.encode({**counts, "again": again, **more}))

    def gate(self, word: str) -> asyncio.Event:
        return self.gates.setdefault(word, asyncio.Event())

    def prefill(self, asked: Asked, request_id: str) -> bytes:
        if asked.max_tokens != 1 or asked.stream:
            raise Refused("a prefill must ask for one token, not streamed")
        word = word_of(asked.prompt)
        self._count("prefill", request_id)
        if word in self.prompts:
            self.counts["prompt again"] += 1
        self.prompts.add(word)
        name = f"kept-{next(self.numbers)}"
        self.kept[name] = (asked.prompt, request_id)
        params = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": "0",
            "remote_request_id": name,
            "remote_block_ids": list(range(-(-len(asked.prompt) // BLOCK))),
            "remote_host": HOST,
            "remote_port": 30000,
        }
        return whole(request_id, word, 1, params)

    def decode(self, asked: Asked, params: dict[str, Any], request_id: str) -> None:
        name = str(params.get("remote_request_id"))
        if (params.get("remote_host"), params.get("remote_port")) != (HOST, 30000):
            raise Refused("a decode needs the host and port of its prefill")
        if params.get("do_remote_decode"):
            raise Refused("a decode cannot hand over to another decode")
        if len(params.get("remote_block_ids") or ()) != -(-len(asked.prompt) // BLOCK):
            raise Refused("a decode needs the blocks of its prefill")
        kept = self.kept if name in self.kept else self.before
        prompt, first_id = kept.pop(name, (None, ""))
        if prompt is None:
            raise Refused("this prefill does not exist or was already fetched")
        if prompt != asked.prompt:
            raise Refused("the prompt differs from the prefill's")
        if first_id != request_id:
            self.counts["other id"] += 1
        self._count("decode", request_id)

    def _count(self, side: str, request_id: str) -> None:
        self.counts[side] += 1
        if not request_id or request_id in self.ids[side]:
            self.counts["id again"] += 1
        self.ids[side].add(request_id)


def word_of(prompt: str) -> str:
    return prompt[:64].split(" ", 1)[0]


def whole(request_id: str, text: str, tokens: int, params: dict[str, Any] | None) -> bytes:
    answer: dict[str, Any] = {
        "id": f"cmpl-{request_id}",
        "object": "text_completion",
        "created": 1,
        "model": "qwen3",
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 8, "total_tokens": 8 + tokens, "completion_tokens": tokens},
    }
    if params:
        answer["kv_transfer_params"] = params
    return bytes(msgspec.json.encode(answer))


def event(request_id: str, text: str, reason: str | None) -> bytes:
    body = msgspec.json.encode(
        {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": 1,
            "model": "qwen3",
            "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}],
        }
    )
    return chunk(b"data: %b\n\n" % body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """One connection; a request at a time, as HTTP/1.1 without pipelining has it."""

    def __init__(self, state: State, side: str) -> None:
        self.state, self.side = state, side
        self.stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self.stream and not self.stream.done():
            self.state.counts["gone"] += 1
            self.stream.cancel()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.request_id = b"", ""
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self.request_id = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        if self.parser.get_method() == b"GET":
            self.get(self.url.decode())
            return
        if self.url != b"/v1/completions":
            self.elsewhere(self.url.decode())
            return
        try:
            self.post(DECODER.decode(b"".join(self.body)))
        except (Refused, msgspec.MsgspecError) as error:
            self.state.refused[str(error)] += 1
            self.answer(msgspec.json.encode({"error": str(error)}), b"400 Bad Request")

    def get(self, url: str) -> None:
        if url.startswith("/open/"):
            self.state.gate(url.removeprefix("/open/")).set()
        body = b"{}"
        if url.startswith("/counts"):
            _, reset, run = url.partition("?reset=")
            body = self.state.report(run)
            if reset:
                self.state.reset()
        elif url == "/v1/models":
            body = b'{"object": "list", "data": [{"id": "qwen3", "object": "model"}]}'
        self.answer(body)

    def elsewhere(self, url: str) -> None:
        self.state.elsewhere[url] += 1
        if url == "/tokenize":
            tokens = list(range(len(DECODER.decode(b"".join(self.body)).prompt) // TOKEN))
            answer = {"count": len(tokens), "max_model_len": 32768, "tokens": tokens}
            self.answer(msgspec.json.encode(answer))
        else:
            self.answer(b'{"detail":"Not Found"}', b"404 Not Found")

    def post(self, asked: Asked) -> None:
        params = asked.kv_transfer_params or {}
        if params.get("do_remote_decode") and self.side != "decode":
            self.answer(self.state.prefill(asked, self.request_id))
        elif params.get("do_remote_prefill") and self.side != "prefill":
            self.state.decode(asked, params, self.request_id)
            word = word_of(asked.prompt)
            if asked.stream:
                work = self.events(word, self.request_id)
                self.stream = asyncio.get_running_loop().create_task(work)
            else:
                self.answer(whole(self.request_id, word, asked.max_tokens, None))
        else:
            raise Refused(f"not a request for the {self.side} side")

    async def events(self, word: str, request_id: str) -> None:
        self.transport.write(STREAM)
        for number in range(EVENTS):
            last = number == EVENTS - 1
            self.transport.write(event(request_id, "" if number else word, "length" * last or None))
            if number == 0 and word.startswith("gated"):
                await self.state.gate(word).wait()
                del self.state.gates[word]
            await asyncio.sleep(0)
        self.transport.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    def answer(self, body: bytes, status: bytes = b"200 OK") -> None:
        self.transport.write(HEAD % (status, len(body), body))


async def main(places: dict[int, str]) -> None:
    loop, state = asyncio.get_running_loop(), State()
    for port, side in places.items():
        await loop.create_server(partial(Connection, state, side), HOST, port)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main({int(port): side for port, side in (a.split("=") for a in sys.argv[1:])}))
