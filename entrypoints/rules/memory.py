"""An estimate of a device's memory."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.inputs.arguments import value_of
from entrypoints.launch.facts import Facts
from entrypoints.messages import finding
from entrypoints.record import NamedTuple

_GIB = 1 << 30


class Need(NamedTuple):
    """GiB on a device. `cache`: of one request of `tokens`; None where its length is not known.

    `have`: what vLLM may use of the platform's; 0 where the platform is not known.
    """

    weights: float
    cache: float | None
    tokens: int | None
    have: float

    @property
    def total(self) -> float:
        return self.weights + (self.cache or 0)


def need(facts: Facts) -> Need | None:
    """Weights and the KV cache of one request of full length; activations come on top.

    None where too little is known of the model.
    """
    place, model, platform = facts.place, facts.model, facts.platform
    if model is None:
        return None
    tokens = facts.number("--max-model-len") or model.longest
    ranks = place.tp * place.pp
    weights = model.weights(max(facts.expert_parallel * place.pp, ranks), ranks)
    if weights is None:
        return None
    cache = model.kv_cache(tokens, place.tp, place.pp) if tokens else None
    have = platform.hbm_bytes / _GIB * _share(facts) if platform else 0
    return Need(weights / _GIB, None if cache is None else cache / _GIB, tokens, have)


def estimate(facts: Facts) -> Iterator[Finding]:
    needed, platform = need(facts), facts.platform
    if needed is None or needed.cache is None or platform is None:
        return
    if needed.have and needed.total > needed.have:
        share, hbm = _share(facts), platform.hbm_bytes / _GIB
        yield finding(
            "memory-estimate", **needed._asdict(), total=needed.total, share=share, hbm=hbm
        )


def _share(facts: Facts) -> float:
    try:
        return float(value_of(facts.flags, "--gpu-memory-utilization") or "")
    except ValueError:
        return facts.release.gpu_memory_utilization


RULES = (estimate,)
