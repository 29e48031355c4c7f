"""Lengths and numbers of requests."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.launch.facts import Facts
from entrypoints.messages import finding

_ALLOW = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_LENGTH = "--max-model-len"
_TOKENS = "--max-num-batched-tokens"
_REQUESTS = "--max-num-seqs"


def context_length(facts: Facts) -> Iterator[Finding]:
    """vLLM refuses a length beyond the model's, unless that is allowed."""
    asked, model = facts.number(_LENGTH), facts.model
    if not asked or model is None or model.longest is None or asked <= model.longest:
        return
    if facts.env.get(_ALLOW, "").lower() not in ("1", "true"):
        code = "context-beyond-scaling" if model.scaled else "context-too-long"
        yield finding(code, asked=asked, longest=model.longest, stated=model.source)


def tokens_below_length(facts: Facts) -> Iterator[Finding]:
    tokens, length = facts.number(_TOKENS), facts.number(_LENGTH)
    if tokens and length and tokens < length and facts.on("--enable-chunked-prefill") is False:
        yield finding("batched-tokens-below-length", tokens=tokens, length=length)


def tokens_below_requests(facts: Facts) -> Iterator[Finding]:
    tokens, requests = facts.number(_TOKENS), facts.number(_REQUESTS)
    if tokens and requests and tokens < requests:
        yield finding("batched-tokens-below-requests", tokens=tokens, requests=requests)


def concurrency(facts: Facts) -> Iterator[Finding]:
    """Not on prefill: its requests end after one token."""
    requests, place, expected = facts.number(_REQUESTS), facts.place, facts.concurrency
    if not expected or not requests or place.role.headless or place.group.name == "prefill":
        return
    total = requests * place.dp
    if total < expected:
        needed = -(-expected // place.dp)
        yield finding(
            "concurrency",
            requests=requests,
            dp=place.dp,
            total=total,
            expected=expected,
            needed=needed,
        )


RULES = (context_length, tokens_below_length, tokens_below_requests, concurrency)
