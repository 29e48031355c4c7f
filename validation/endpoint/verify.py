"""Whether an endpoint serves as vLLM's API does: the document's verification, and its edges.

Each check is a function that returns what it saw, or raises Failed with what is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from common.errors import UserError, did_you_mean
from validation.endpoint.client import Answer, Endpoint, Stream

PROMPT = "The future of AI is"
TOKENS = 16
AT_ONCE = 8

OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Result:
    """One check: its state, what was seen or is wrong, and how many seconds it took."""

    name: str
    state: str
    message: str
    seconds: float


class Failed(Exception):
    """What is wrong with an answer."""


class Skipped(Exception):
    """Why a check has nothing to look at."""


@dataclass
class Trial:
    """What the checks know of the endpoint. `text` is what the first completion said."""

    endpoint: Endpoint
    model: str = ""
    longest: int | None = None
    text: str = ""


def verify(endpoint: Endpoint, model: str = "") -> Iterator[Result]:
    """Every check in turn. Raises UserError (69) when nobody is there at all."""
    endpoint.get("/v1/models")
    trial = Trial(endpoint, model)
    for name, check in CHECKS:
        begun = time.monotonic()
        try:
            state, message = OK, check(trial)
        except Failed as failed:
            state, message = FAILED, str(failed)
        except Skipped as skipped:
            state, message = SKIPPED, str(skipped)
        except UserError as error:
            state, message = FAILED, "; ".join(map(str, error.findings))
        yield Result(name, state, message, time.monotonic() - begun)


def _health(trial: Trial) -> str:
    answer = trial.endpoint.get("/health")
    if answer.status == 404:
        raise Skipped("the endpoint has no /health")
    _wants(answer.status == 200, f"/health answers {answer.status}")
    return "200"


def _models(trial: Trial) -> str:
    answer = trial.endpoint.get("/v1/models")
    if answer.status == 404 and trial.model:
        raise Skipped("the endpoint has no /v1/models")
    _wants(answer.status == 200, f"/v1/models answers {answer.status}: {_short(answer.text)}")
    listed = {one.get("id"): one for one in _list(answer.body, "data")}
    _wants(bool(listed), "/v1/models lists no model")
    trial.model = trial.model or str(next(iter(listed)))
    hint = did_you_mean(trial.model, map(str, listed))
    _wants(trial.model in listed, f"{trial.model} is not served; {hint}")
    longest = listed[trial.model].get("max_model_len")
    trial.longest = longest if isinstance(longest, int) else None
    return f"{trial.model}, {longest} tokens" if longest else trial.model


def _completion(trial: Trial) -> str:
    body = _good(trial.endpoint.post("/v1/completions", _completion_of(trial)))
    choice = _choice(body)
    text = choice.get("text")
    _wants(isinstance(text, str), f"choices[0].text is {text!r}")
    trial.text = str(text)
    _finished(choice)
    return f"{_usage(body, TOKENS)}: {_short(trial.text)}"


def _chat(trial: Trial) -> str:
    body = _good(trial.endpoint.post("/v1/chat/completions", _chat_of(trial)))
    choice = _choice(body)
    message = choice.get("message") or {}
    _wants(message.get("role") == "assistant", f"the message's role is {message.get('role')!r}")
    said = message.get("content") or message.get("reasoning_content") or message.get("reasoning")
    _wants(isinstance(said, str), "the message has no content")
    _finished(choice)
    return f"{_usage(body, TOKENS)}: {_short(str(said))}"


def _stream_completion(trial: Trial) -> str:
    asked = {**_completion_of(trial), "stream": True, "stream_options": {"include_usage": True}}
    stream = trial.endpoint.stream("/v1/completions", asked)
    text = "".join(choice.get("text") or "" for choice in _streamed(stream))
    usage = _usage(stream.events[-1], TOKENS)
    same = "as unstreamed" if text == trial.text else "another text than unstreamed"
    return f"{len(stream.events)} events, {usage}, {same}"


def _stream_chat(trial: Trial) -> str:
    asked = {**_chat_of(trial), "stream": True, "stream_options": {"include_usage": True}}
    stream = trial.endpoint.stream("/v1/chat/completions", asked)
    choices = list(_streamed(stream))
    role = (choices[0].get("delta") or {}).get("role")
    _wants(role == "assistant", f"the first delta's role is {role!r}")
    return f"{len(stream.events)} events, {_usage(stream.events[-1], TOKENS)}"


def _length(trial: Trial) -> str:
    asked = {**_completion_of(trial), "max_tokens": 1}
    body = _good(trial.endpoint.post("/v1/completions", asked))
    reason = _choice(body).get("finish_reason")
    _wants(reason in ("length", "stop"), f"one token ends by {reason!r}, not by length")
    return f"{_usage(body, 1)}, ended by {reason}"


def _stop(trial: Trial) -> str:
    word = trial.text[len(trial.text) // 2 :][:4]
    if not word.strip():
        raise Skipped("the first completion left no text to stop at")
    asked = {**_completion_of(trial), "stop": [word]}
    choice = _choice(_good(trial.endpoint.post("/v1/completions", asked)))
    _wants(word not in choice.get("text", ""), f"the text goes on after {word!r}")
    reason = choice.get("finish_reason")
    if reason != "stop" and choice.get("text") != trial.text:
        raise Skipped(f"another text than before, without {word!r}")
    _wants(reason == "stop", f"ended by {reason!r} before {word!r}")
    return f"ended by {reason} before {word!r}"


def _at_once(trial: Trial) -> str:
    begun = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [_completion_of(trial)] * AT_ONCE
        answers = list(pool.map(lambda one: trial.endpoint.post("/v1/completions", one), asked))
    for answer in answers:
        _usage(_good(answer), TOKENS)
    return f"{AT_ONCE} requests in {time.monotonic() - begun:.1f} s"


def _unknown_model(trial: Trial) -> str:
    asked = {**_completion_of(trial), "model": "no-such-model"}
    return _refused(trial.endpoint.post("/v1/completions", asked), 404)


def _bad_value(trial: Trial) -> str:
    asked = {**_completion_of(trial), "max_tokens": -1}
    return _refused(trial.endpoint.post("/v1/completions", asked), 400, 422)


def _no_prompt(trial: Trial) -> str:
    return _refused(trial.endpoint.post("/v1/chat/completions", {"model": trial.model}), 400, 422)


def _no_json(trial: Trial) -> str:
    return _refused(trial.endpoint.post("/v1/completions", b'{"model": '), 400, 422)


def _too_long(trial: Trial) -> str:
    if trial.longest is None:
        raise Skipped("the endpoint does not say how long a context may be")
    asked = {**_completion_of(trial), "prompt": [1] * (trial.longest + 1)}
    return _refused(trial.endpoint.post("/v1/completions", asked), 400)


# The order matters: later checks use what earlier ones learn of the endpoint.
CHECKS: tuple[tuple[str, Callable[[Trial], str]], ...] = (
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


def _completion_of(trial: Trial) -> dict[str, Any]:
    return {"model": trial.model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}


def _chat_of(trial: Trial) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": trial.model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}


def _wants(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Failed(otherwise)


def _good(answer: Answer) -> Any:
    _wants(answer.status == 200, f"answers {answer.status}: {_short(answer.text)}")
    _wants(isinstance(answer.body, dict), f"answers 200 with {_short(answer.text) or 'nothing'}")
    return answer.body


def _list(body: Any, key: str) -> list[Any]:
    value = body.get(key) if isinstance(body, dict) else None
    _wants(isinstance(value, list), f"the answer has no list {key!r}")
    return [one for one in value or [] if isinstance(one, dict)]


def _choice(body: Any) -> Any:
    choices = _list(body, "choices")
    _wants(len(choices) == 1, f"{len(choices)} choices for one")
    return choices[0]


def _finished(choice: Any) -> None:
    reason = choice.get("finish_reason")
    _wants(reason in ("stop", "length"), f"finish_reason is {reason!r}")


def _usage(body: Any, most: int) -> str:
    usage = body.get("usage") if isinstance(body, dict) else None
    _wants(isinstance(usage, dict), "no usage is told")
    numbers = [(usage or {}).get(f"{name}_tokens") for name in ("prompt", "completion", "total")]
    prompt, completion, total = (one if isinstance(one, int) else -1 for one in numbers)
    _wants(prompt > 0 and 0 < completion <= most, f"usage is {usage}, {most} tokens at most")
    _wants(total == prompt + completion, f"usage does not add up: {usage}")
    return f"{prompt} + {completion} tokens"


def _streamed(stream: Stream) -> Iterator[Any]:
    """The choices of a good stream, one an event; the last one has a finish_reason."""
    _wants(stream.status == 200, f"answers {stream.status}: {_short(stream.text)}")
    _wants(stream.media_type == "text/event-stream", f"the media type is {stream.media_type!r}")
    _wants(stream.done, "the stream ends without [DONE]")
    choices = [choice for event in stream.events for choice in _list(event, "choices")]
    _wants(bool(choices), "the stream has no choices")
    _finished(choices[-1])
    early = [one for one in choices[:-1] if one.get("finish_reason")]
    _wants(not early, "the stream goes on after a finish_reason")
    yield from choices


def _refused(answer: Answer, *wanted: int) -> str:
    """A refusal that says why: in JSON as vLLM does, or in plain text as routers do."""
    said = " or ".join(map(str, wanted))
    _wants(answer.status in wanted, f"answers {answer.status} in place of {said}")
    body = answer.body if isinstance(answer.body, dict) else {}
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else body.get("message")
    message = str(message or body.get("detail") or answer.text)
    _wants(bool(message.strip()), f"{answer.status} without a message")
    return f"{answer.status}: {_short(message)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
