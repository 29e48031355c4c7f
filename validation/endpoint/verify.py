"""Verify an endpoint: whether it answers as vLLM's API does, valid and invalid requests alike.

Each check is a function that returns a message, or raises Failed with what is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from common.errors import UserError, did_you_mean
from validation.endpoint.client import Answer, Endpoint, Stream

PROMPT = "The future of AI is"
TOKENS = 16
CONCURRENT = 8

OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Result:
    """The result of a check: its state, a message, and how many seconds it took."""

    name: str
    state: str
    message: str
    seconds: float


class Failed(Exception):
    """What is wrong with an answer."""


class Skipped(Exception):
    """Why a check does not apply."""


@dataclass
class Context:
    """What earlier checks found out. `longest`: tokens. `text`: of the first completion."""

    endpoint: Endpoint
    model: str = ""
    longest: int | None = None
    text: str = ""


def verify(endpoint: Endpoint, model: str = "") -> Iterator[Result]:
    """Run every check. Raises UserError (69) if the endpoint does not answer at all."""
    endpoint.get("/v1/models")
    context = Context(endpoint, model)
    for name, check in CHECKS:
        begun = time.monotonic()
        try:
            state, message = OK, check(context)
        except Failed as failed:
            state, message = FAILED, str(failed)
        except Skipped as skipped:
            state, message = SKIPPED, str(skipped)
        except UserError as error:
            state, message = FAILED, "; ".join(map(str, error.findings))
        yield Result(name, state, message, time.monotonic() - begun)


def results_data(results: Sequence[Result]) -> dict[str, Any]:
    """The results as JSON data."""
    rows = [{**asdict(one), "seconds": round(one.seconds, 3)} for one in results]
    return {"failed": any(one.state == FAILED for one in results), "checks": rows}


def result_text(result: Result) -> str:
    """A line for a check."""
    return f"{result.state:8} {result.name:20} {result.seconds:6.2f} s  {result.message}"


def summary_text(results: Sequence[Result]) -> str:
    """How many checks failed."""
    failed = sum(one.state == FAILED for one in results)
    return f"{failed} of {len(results)} failed" if failed else "all passed"


def _health(context: Context) -> str:
    answer = context.endpoint.get("/health")
    if answer.status == 404:
        raise Skipped("the endpoint has no /health")
    _require(answer.status == 200, f"/health answers {answer.status}")
    return "200"


def _models(context: Context) -> str:
    answer = context.endpoint.get("/v1/models")
    if answer.status == 404 and context.model:
        raise Skipped("the endpoint has no /v1/models")
    _require(answer.status == 200, f"/v1/models answers {answer.status}: {_short(answer.text)}")
    listed = {one.get("id"): one for one in _list(answer.body, "data")}
    _require(bool(listed), "/v1/models lists no model")
    context.model = context.model or str(next(iter(listed)))
    hint = did_you_mean(context.model, map(str, listed))
    _require(context.model in listed, f"{context.model} is not served; {hint}")
    longest = listed[context.model].get("max_model_len")
    context.longest = longest if isinstance(longest, int) else None
    return f"{context.model}, {longest} tokens" if longest else context.model


def _completion(context: Context) -> str:
    body = _good(context.endpoint.post("/v1/completions", _completion_of(context)))
    choice = _choice(body)
    text = choice.get("text")
    _require(isinstance(text, str), f"choices[0].text is {text!r}")
    context.text = str(text)
    _finished(choice)
    return f"{_usage(body, TOKENS)}: {_short(context.text)}"


def _chat(context: Context) -> str:
    body = _good(context.endpoint.post("/v1/chat/completions", _chat_of(context)))
    choice = _choice(body)
    message = choice.get("message") or {}
    _require(message.get("role") == "assistant", f"the message's role is {message.get('role')!r}")
    said = message.get("content") or message.get("reasoning_content") or message.get("reasoning")
    _require(isinstance(said, str), "the message has no content")
    _finished(choice)
    return f"{_usage(body, TOKENS)}: {_short(str(said))}"


def _stream_completion(context: Context) -> str:
    asked = {**_completion_of(context), "stream": True, "stream_options": {"include_usage": True}}
    stream = context.endpoint.stream("/v1/completions", asked)
    text = "".join(choice.get("text") or "" for choice in _streamed(stream))
    usage = _usage(stream.events[-1], TOKENS)
    same = "same text" if text == context.text else "not the text of the plain completion"
    return f"{len(stream.events)} events, {usage}, {same}"


def _stream_chat(context: Context) -> str:
    asked = {**_chat_of(context), "stream": True, "stream_options": {"include_usage": True}}
    stream = context.endpoint.stream("/v1/chat/completions", asked)
    choices = list(_streamed(stream))
    role = (choices[0].get("delta") or {}).get("role")
    _require(role == "assistant", f"the first delta's role is {role!r}")
    return f"{len(stream.events)} events, {_usage(stream.events[-1], TOKENS)}"


def _length(context: Context) -> str:
    asked = {**_completion_of(context), "max_tokens": 1}
    body = _good(context.endpoint.post("/v1/completions", asked))
    reason = _choice(body).get("finish_reason")
    _require(reason in ("length", "stop"), f"one token ends with {reason!r}, not with length")
    return f"{_usage(body, 1)}, ended by {reason}"


def _stop(context: Context) -> str:
    word = context.text[len(context.text) // 2 :][:4]
    if not word.strip():
        raise Skipped("the first completion has no text to stop at")
    asked = {**_completion_of(context), "stop": [word]}
    choice = _choice(_good(context.endpoint.post("/v1/completions", asked)))
    _require(word not in choice.get("text", ""), f"the text goes on after {word!r}")
    reason = choice.get("finish_reason")
    if reason != "stop" and choice.get("text") != context.text:
        raise Skipped(f"different text, without {word!r}")
    _require(reason == "stop", f"ended by {reason!r} before {word!r}")
    return f"ended by {reason} before {word!r}"


def _at_once(context: Context) -> str:
    begun = time.monotonic()
    with ThreadPoolExecutor(CONCURRENT) as pool:
        asked = [_completion_of(context)] * CONCURRENT
        answers = list(pool.map(lambda one: context.endpoint.post("/v1/completions", one), asked))
    for answer in answers:
        _usage(_good(answer), TOKENS)
    return f"{CONCURRENT} requests in {time.monotonic() - begun:.1f} s"


def _unknown_model(context: Context) -> str:
    asked = {**_completion_of(context), "model": "no-such-model"}
    return _refused(context.endpoint.post("/v1/completions", asked), 404)


def _bad_value(context: Context) -> str:
    asked = {**_completion_of(context), "max_tokens": -1}
    return _refused(context.endpoint.post("/v1/completions", asked), 400, 422)


def _no_prompt(context: Context) -> str:
    return _refused(
        context.endpoint.post("/v1/chat/completions", {"model": context.model}), 400, 422
    )


def _no_json(context: Context) -> str:
    return _refused(context.endpoint.post("/v1/completions", b'{"model": '), 400, 422)


def _too_long(context: Context) -> str:
    if context.longest is None:
        raise Skipped("the endpoint does not state its maximum context length")
    asked = {**_completion_of(context), "prompt": [1] * (context.longest + 1)}
    return _refused(context.endpoint.post("/v1/completions", asked), 400)


# The order matters: later checks use what earlier ones found out.
CHECKS: tuple[tuple[str, Callable[[Context], str]], ...] = (
    ("health", _health),
    ("models", _models),
    ("completion", _completion),
    ("chat", _chat),
    ("streamed completion", _stream_completion),
    ("streamed chat", _stream_chat),
    ("length", _length),
    ("stop", _stop),
    ("requests at once", _at_once),
    ("error: unknown model", _unknown_model),
    ("error: bad value", _bad_value),
    ("error: no messages", _no_prompt),
    ("error: no JSON", _no_json),
    ("error: too long", _too_long),
)


def _completion_of(context: Context) -> dict[str, Any]:
    return {"model": context.model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}


def _chat_of(context: Context) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": context.model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Failed(message)


def _good(answer: Answer) -> Any:
    _require(answer.status == 200, f"answers {answer.status}: {_short(answer.text)}")
    _require(
        isinstance(answer.body, dict), f"answers 200 with {_short(answer.text) or 'an empty body'}"
    )
    return answer.body


def _list(body: Any, key: str) -> list[Any]:
    value = body.get(key) if isinstance(body, dict) else None
    _require(isinstance(value, list), f"the answer has no list {key!r}")
    return [one for one in value or [] if isinstance(one, dict)]


def _choice(body: Any) -> Any:
    choices = _list(body, "choices")
    _require(len(choices) == 1, f"{len(choices)} choices, not one")
    return choices[0]


def _finished(choice: Any) -> None:
    reason = choice.get("finish_reason")
    _require(reason in ("stop", "length"), f"finish_reason is {reason!r}")


def _usage(body: Any, limit: int) -> str:
    usage = body.get("usage") if isinstance(body, dict) else None
    _require(isinstance(usage, dict), "the answer has no usage")
    numbers = [(usage or {}).get(f"{name}_tokens") for name in ("prompt", "completion", "total")]
    prompt, completion, total = (one if isinstance(one, int) else -1 for one in numbers)
    _require(prompt > 0 and 0 < completion <= limit, f"usage is {usage}, at most {limit} tokens")
    _require(total == prompt + completion, f"usage does not add up: {usage}")
    return f"{prompt} + {completion} tokens"


def _streamed(stream: Stream) -> Iterator[Any]:
    """The choices of a valid stream, in order; the last one has a finish_reason."""
    _require(stream.status == 200, f"answers {stream.status}: {_short(stream.text)}")
    _require(stream.media_type == "text/event-stream", f"the media type is {stream.media_type!r}")
    _require(stream.done, "the stream ends without [DONE]")
    choices = [choice for event in stream.events for choice in _list(event, "choices")]
    _require(bool(choices), "the stream has no choices")
    _finished(choices[-1])
    early = [one for one in choices[:-1] if one.get("finish_reason")]
    _require(not early, "the stream goes on after a finish_reason")
    yield from choices


def _refused(answer: Answer, *wanted: int) -> str:
    """An error with a message: in JSON as from vLLM, or in plain text as from routers."""
    expected = " or ".join(map(str, wanted))
    _require(answer.status in wanted, f"answers {answer.status}, not {expected}")
    body = answer.body if isinstance(answer.body, dict) else {}
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else body.get("message")
    message = str(message or body.get("detail") or answer.text)
    _require(bool(message.strip()), f"{answer.status} has no message")
    return f"{answer.status}: {_short(message)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
