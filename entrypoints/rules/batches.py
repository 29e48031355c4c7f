"""Lengths and numbers of requests."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import ERROR, WARNING, Finding, Message, check
from entrypoints.launch.facts import Facts
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_ALLOW = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_LENGTH = "--max-model-len"
_TOKENS = "--max-num-batched-tokens"
_REQUESTS = "--max-num-seqs"
_SCHEDULER = "vllm v0.13.0: vllm/config/scheduler.py:251-269"
_DERIVED = "vllm v0.13.0: vllm/config/model.py:2163"


def _beyond(facts: Facts, scaled: bool) -> dict[str, Any] | None:
    """The length asked for, the model's and its source, when it is too long and not allowed."""
    asked, model = facts.number(_LENGTH), facts.model
    if not asked or model is None or model.longest is None or asked <= model.longest:
        return None
    if model.scaled != scaled or facts.env.get(_ALLOW, "").lower() in ("1", "true"):
        return None
    return {"asked": asked, "longest": model.longest, "stated": model.source}


@check(
    "context-too-long",
    ERROR,
    f"{_LENGTH} beyond the model's length",
    _DERIVED,
    Message(
        "{asked} is longer than the model's {longest}, and vLLM refuses that ({stated})",
        "give {longest} at most, or set the recipe's feature yarn",
        _LENGTH,
    ),
)
def too_long(facts: Facts, found: Message) -> Iterator[Finding]:
    values = _beyond(facts, scaled=False)
    if values:
        yield found(**values)


@check(
    "context-beyond-scaling",
    WARNING,
    f"{_LENGTH} beyond the model's length with rope scaling",
    _DERIVED,
    Message(
        f"{_LENGTH} {{asked}} is longer than {{longest}}, the model's length with rope scaling:"
        " vLLM refuses that",
        f"give {{longest}} at most, or set {_ALLOW}=1",
    ),
)
def beyond_scaling(facts: Facts, found: Message) -> Iterator[Finding]:
    values = _beyond(facts, scaled=True)
    if values:
        yield found(**values)


@check(
    "batched-tokens-below-length",
    ERROR,
    f"{_TOKENS} below {_LENGTH} without chunked prefill",
    _SCHEDULER,
    Message(
        f"{{tokens}} is below {_LENGTH} {{length}} with chunked prefill off",
        "raise it, or leave chunked prefill on",
        _TOKENS,
    ),
)
def tokens_below_length(facts: Facts, found: Message) -> Iterator[Finding]:
    tokens, length = facts.number(_TOKENS), facts.number(_LENGTH)
    if tokens and length and tokens < length and facts.on("--enable-chunked-prefill") is False:
        yield found(tokens=tokens, length=length)


@check(
    "batched-tokens-below-requests",
    ERROR,
    f"{_TOKENS} below {_REQUESTS}",
    _SCHEDULER,
    Message(
        f"{{tokens}} is below {_REQUESTS} {{requests}}: each request takes a token in a step",
        "give {requests} or more",
        _TOKENS,
    ),
)
def tokens_below_requests(facts: Facts, found: Message) -> Iterator[Finding]:
    tokens, requests = facts.number(_TOKENS), facts.number(_REQUESTS)
    if tokens and requests and tokens < requests:
        yield found(tokens=tokens, requests=requests)


@check(
    "concurrency",
    WARNING,
    f"{_REQUESTS} times data parallel below the expected concurrency",
    "vllm-ascend docs Qwen3-235B-A22B",
    Message(
        f"{_REQUESTS} {{requests}} times data parallel {{dp}} is {{total}} requests at once,"
        " fewer than the {expected} expected: the others wait",
        f"set {_REQUESTS} to {{needed}} or more",
    ),
)
def concurrency(facts: Facts, found: Message) -> Iterator[Finding]:
    """Not on prefill: its requests end after one token."""
    requests, place, expected = facts.number(_REQUESTS), facts.place, facts.concurrency
    if not expected or not requests or place.role.headless or place.group.name == "prefill":
        return
    total = requests * place.dp
    if total < expected:
        needed = -(-expected // place.dp)
        yield found(requests=requests, dp=place.dp, total=total, expected=expected, needed=needed)


CHECKS = (too_long, tokens_below_length, tokens_below_requests, beyond_scaling, concurrency)
