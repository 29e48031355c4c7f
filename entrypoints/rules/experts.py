"""Experts, and the features that are about them."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.inputs.arguments import value_of
from entrypoints.rules.facts import ERROR, WARNING, Check, Facts, Found

_DOCS = "vllm-ascend docs Qwen3-235B-A22B"
_MC2 = "fused_mc2"
_FLASH = "flashcomm1"
_TOKENS = "--max-num-batched-tokens"
# vllm-ascend v0.11.0-v0.23.0: vllm_ascend/ascend_forward_context.py, sp_enabled.
_DENSE_TOKENS = 1000


def _fused(facts: Facts) -> int:
    return facts.feature(_MC2) or 0


def _known_dense(facts: Facts) -> bool:
    return facts.model is not None and not facts.model.moe


def fused_mc2_value(facts: Facts) -> Iterator[Found]:
    form = facts.release.features[_MC2]
    value = facts.feature(_MC2)
    if value is not None and form.values and value not in form.values:
        yield Found(
            f"{value} is none of {', '.join(map(str, form.values))}",
            "give one of these",
            facts.feature_name(_MC2),
            form.source,
        )


def fused_mc2_platform(facts: Facts) -> Iterator[Found]:
    if _fused(facts) and facts.platform and facts.platform.name != "a3":
        yield Found(
            f"{facts.feature_name(_MC2)} has no effect on {facts.platform.description}",
            "leave it out: it is for A3",
        )


def fused_mc2_quantization(facts: Facts) -> Iterator[Found]:
    if not _fused(facts):
        return
    quantized = value_of(facts.flags, "--quantization") == "ascend"
    bits = facts.model.bits if facts.model else None
    if not quantized or bits not in (None, 8):
        yield Found(
            f"{facts.feature_name(_MC2)} works with W8A8 weights only",
            "leave it out, or serve W8A8 weights with --quantization ascend",
        )


def fused_mc2_size(facts: Facts) -> Iterator[Found]:
    value, limit = _fused(facts), facts.release.fused_mc2_largest_ep
    if not value or not limit:
        return
    size = facts.expert_parallel
    if size == 1:
        yield Found(
            f"{facts.feature_name(_MC2)} has no effect without expert parallel",
            "add --enable-expert-parallel, or leave it out",
            source=limit["source"],
        )
    elif value == limit["value"] and size > limit["size"]:
        yield Found(
            f"{facts.feature_name(_MC2)}={value} has no effect with expert parallel {size}:"
            f" {facts.release.name} uses it up to {limit['size']}",
            "give 2 on decode nodes, or leave it out",
            source=limit["source"],
        )


def flashcomm1_refused(facts: Facts) -> Iterator[Found]:
    rule = facts.release.flashcomm1_asserted
    if not facts.feature(_FLASH) or not rule["by_release"]:
        return
    where, source = facts.feature_name(_FLASH), rule["source"]
    if facts.place.tp == 1:
        yield Found("is refused with tp 1", "leave it out, or set TP_SIZE", where, source)
    elif facts.model and facts.model.moe and not facts.on("--enable-expert-parallel"):
        fix = "add --enable-expert-parallel, or leave it out"
        yield Found("is refused for experts without expert parallel", fix, where, source)


def flashcomm1_no_effect(facts: Facts) -> Iterator[Found]:
    if not facts.feature(_FLASH):
        return
    name = facts.feature_name(_FLASH)
    if facts.place.tp == 1 and not facts.release.flashcomm1_asserted["by_release"]:
        yield Found(f"{name} is for tp > 1", "leave it out, or set TP_SIZE")
    elif _known_dense(facts) and (facts.number(_TOKENS) or _DENSE_TOKENS + 1) <= _DENSE_TOKENS:
        yield Found(
            f"{name} works with more than {_DENSE_TOKENS} tokens in a step where a model has no"
            f" experts, and {_TOKENS} is {facts.number(_TOKENS)}",
            f"leave it out, or raise {_TOKENS}",
        )


def expert_parallel_dense(facts: Facts) -> Iterator[Found]:
    if facts.on("--enable-expert-parallel") and _known_dense(facts):
        yield Found("--enable-expert-parallel: the model has no experts", "leave it out")


def a2_fabric(facts: Facts) -> Iterator[Found]:
    if not _over_a2_nodes(facts):
        return
    rule = facts.release.a2_expert_parallel
    wanted = {name: str(value) for name, value in rule["env"].items()}
    if any(facts.env.get(name) != value for name, value in wanted.items()):
        settings = " and ".join(f"{name}={value}" for name, value in wanted.items())
        yield Found(
            "expert parallel over A2 nodes can fail with 561000 or EI0007",
            f"set {settings} on every node",
        )


def a2_size(facts: Facts) -> Iterator[Found]:
    sizes = facts.release.a2_expert_parallel["sizes"]
    if _over_a2_nodes(facts) and facts.expert_parallel not in sizes:
        yield Found(
            f"expert parallel {facts.expert_parallel} over A2 nodes is none of the sizes that"
            f" work: {', '.join(map(str, sizes))}",
            "choose TP_SIZE and DP_SIZE whose product is one of these",
        )


def _over_a2_nodes(facts: Facts) -> bool:
    on_a2 = facts.platform is not None and facts.platform.name == "a2"
    return on_a2 and facts.place.nodes > 1 and facts.expert_parallel > 1


CHECKS = (
    Check(
        "fused-mc2-value",
        ERROR,
        "a value of fused_mc2 that the release refuses",
        "vllm-ascend v0.13.0rc1-v0.23.0: vllm_ascend/ops/fused_moe/moe_comm_method.py",
        fused_mc2_value,
    ),
    Check(
        "flashcomm1-refused",
        ERROR,
        "flashcomm1 with tp 1, or with experts without expert parallel, from v0.13.0rc1",
        "vllm-ascend v0.13.0rc1: vllm_ascend/utils.py:797",
        flashcomm1_refused,
    ),
    Check(
        "fused-mc2-platform", WARNING, "fused_mc2 elsewhere than on A3", _DOCS, fused_mc2_platform
    ),
    Check(
        "fused-mc2-quantization",
        WARNING,
        "fused_mc2 with other weights than W8A8",
        _DOCS,
        fused_mc2_quantization,
    ),
    Check(
        "fused-mc2-size",
        WARNING,
        "fused_mc2 beyond the expert parallel size that it takes",
        "vllm-ascend: vllm_ascend/ascend_forward_context.py",
        fused_mc2_size,
    ),
    Check(
        "flashcomm1-no-effect",
        WARNING,
        "flashcomm1 without experts and more than 1000 batched tokens, or with tp 1 in v0.11.0",
        "vllm-ascend: vllm_ascend/ascend_forward_context.py",
        flashcomm1_no_effect,
    ),
    Check(
        "expert-parallel-dense",
        WARNING,
        "expert parallel for a model without experts",
        _DOCS,
        expert_parallel_dense,
    ),
    Check(
        "a2-expert-fabric",
        WARNING,
        "expert parallel over A2 nodes without HCCL's switches for it",
        "vllm-ascend#5947, #8568, #9872",
        a2_fabric,
    ),
    Check(
        "a2-expert-size",
        WARNING,
        "expert parallel over A2 nodes of an odd size",
        "vllm-ascend#5947, #8568, #9872",
        a2_size,
    ),
)
