"""An estimate of the memory of a device."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.inputs.arguments import value_of
from entrypoints.rules.facts import WARNING, Check, Facts, Found

_GIB = 1 << 30


def estimate(facts: Facts) -> Iterator[Found]:
    """Weights and the KV cache of one request of full length; activations come on top."""
    place, model, platform = facts.place, facts.model, facts.platform
    if model is None or platform is None or not platform.hbm_gib:
        return
    length = facts.number("--max-model-len") or model.longest
    ranks = place.tp * place.pp
    weights = model.weights(max(facts.expert_parallel * place.pp, ranks), ranks)
    cache = model.kv_cache(length, place.tp, place.pp) if length else None
    if weights is None or cache is None:
        return
    share = _share(facts)
    have = platform.hbm_gib * share
    need = (weights + cache) / _GIB
    if need > have:
        yield Found(
            f"an estimate: {weights / _GIB:.1f} GiB of weights and {cache / _GIB:.1f} GiB of KV"
            f" cache for one request of {length} tokens make {need:.1f} GiB on each device, of"
            f" {have:.1f} GiB ({share:g} of {platform.hbm_gib})",
            "use more devices, quantized weights or a smaller --max-model-len",
        )


def _share(facts: Facts) -> float:
    try:
        return float(value_of(facts.flags, "--gpu-memory-utilization") or "")
    except ValueError:
        return facts.release.gpu_memory_utilization


CHECKS = (
    Check(
        "memory-estimate",
        WARNING,
        "weights and the KV cache of one request beyond the device's memory",
        "vllm-ascend#11295, #3357, #9372",
        estimate,
    ),
)
