"""Lengths and numbers of requests."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.rules.facts import ERROR, WARNING, Check, Facts, Found

_ALLOW = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_LENGTH = "--max-model-len"
_TOKENS = "--max-num-batched-tokens"
_REQUESTS = "--max-num-seqs"
_SCHEDULER = "vllm v0.13.0: vllm/config/scheduler.py:251-269"
_DERIVED = "vllm v0.13.0: vllm/config/model.py:2163"


def concurrency(facts: Facts) -> Iterator[Found]:
    """Not on prefill: its requests end after one token."""
    requests, place = facts.number(_REQUESTS), facts.place
    if not facts.concurrency or not requests or place.role.headless:
        return
    together = requests * place.dp
    if together < facts.concurrency and place.group.name != "prefill":
        yield Found(
            f"{_REQUESTS} {requests} times data parallel {place.dp} is {together} requests at"
            f" once, fewer than the {facts.concurrency} expected: the others wait",
            f"set {_REQUESTS} to {-(-facts.concurrency // place.dp)} or more",
        )


def _beyond(facts: Facts) -> tuple[int, int] | None:
    """The length asked for and the model's, when it is too long and not allowed."""
    asked, model = facts.number(_LENGTH), facts.model
    if not asked or model is None or model.longest is None or asked <= model.longest:
        return None
    if facts.env.get(_ALLOW, "").lower() in ("1", "true"):
        return None
    return asked, model.longest


def too_long(facts: Facts) -> Iterator[Found]:
    found = _beyond(facts)
    if found and facts.model and not facts.model.scaled:
        asked, longest = found
        yield Found(
            f"{asked} is longer than the model's {longest}, and vLLM refuses that"
            f" ({facts.model.source})",
            f"give {longest} at most, or set the recipe's feature yarn",
            _LENGTH,
        )


def beyond_scaling(facts: Facts) -> Iterator[Found]:
    found = _beyond(facts)
    if found and facts.model and facts.model.scaled:
        asked, longest = found
        yield Found(
            f"{_LENGTH} {asked} is longer than the {longest} that rope scaling makes of the"
            " model's own length: vLLM refuses that",
            f"give {longest} at most, or set {_ALLOW}=1",
        )


def tokens_below_length(facts: Facts) -> Iterator[Found]:
    tokens, length = facts.number(_TOKENS), facts.number(_LENGTH)
    if tokens and length and tokens < length and facts.on("--enable-chunked-prefill") is False:
        yield Found(
            f"{tokens} is below {_LENGTH} {length} with chunked prefill off",
            "raise it, or leave chunked prefill on",
            _TOKENS,
        )


def tokens_below_requests(facts: Facts) -> Iterator[Found]:
    tokens, requests = facts.number(_TOKENS), facts.number(_REQUESTS)
    if tokens and requests and tokens < requests:
        yield Found(
            f"{tokens} is below {_REQUESTS} {requests}: each request takes a token in a step",
            f"give {requests} or more",
            _TOKENS,
        )


CHECKS = (
    Check("context-too-long", ERROR, f"{_LENGTH} beyond the model's length", _DERIVED, too_long),
    Check(
        "batched-tokens-below-length",
        ERROR,
        f"{_TOKENS} below {_LENGTH} without chunked prefill",
        _SCHEDULER,
        tokens_below_length,
    ),
    Check(
        "batched-tokens-below-requests",
        ERROR,
        f"{_TOKENS} below {_REQUESTS}",
        _SCHEDULER,
        tokens_below_requests,
    ),
    Check(
        "context-beyond-scaling",
        WARNING,
        f"{_LENGTH} beyond what rope scaling makes of the model's length",
        _DERIVED,
        beyond_scaling,
    ),
    Check(
        "concurrency",
        WARNING,
        f"{_REQUESTS} times data parallel below the expected concurrency",
        "vllm-ascend docs Qwen3-235B-A22B",
        concurrency,
    ),
)
