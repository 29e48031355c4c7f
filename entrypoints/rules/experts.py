"""Experts, and the features that concern them."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import ERROR, WARNING, Finding, Message, check
from entrypoints.inputs.arguments import value_of
from entrypoints.launch.facts import Facts

_DOCS = "vllm-ascend docs Qwen3-235B-A22B"
_CONTEXT = "vllm-ascend: vllm_ascend/ascend_forward_context.py"
_OVER_A2 = "vllm-ascend#5947, #8568, #9872"
_MC2 = "fused_mc2"
_FLASH = "flashcomm1"
_TOKENS = "--max-num-batched-tokens"
# vllm-ascend v0.11.0-v0.23.0.post1: vllm_ascend/ascend_forward_context.py, sp_enabled.
_DENSE_TOKENS = 1000


def _fused(facts: Facts) -> int:
    return facts.feature(_MC2) or 0


def _known_dense(facts: Facts) -> bool:
    return facts.model is not None and not facts.model.moe


@check(
    "fused-mc2-value",
    ERROR,
    "a value of fused_mc2 that the release refuses",
    "vllm-ascend v0.13.0rc1-v0.23.0.post1: vllm_ascend/ops/fused_moe/moe_comm_method.py",
    Message("{value} is not one of {known}", "give one of these", "{feature}"),
)
def fused_mc2_value(facts: Facts, found: Message) -> Iterator[Finding]:
    form, value = facts.release.features[_MC2], facts.feature(_MC2)
    if value is not None and form.values and value not in form.values:
        known = ", ".join(map(str, form.values))
        name = facts.feature_name(_MC2)
        yield found(source=form.source, value=value, known=known, feature=name)


@check(
    "fused-mc2-platform",
    WARNING,
    "fused_mc2 on a platform other than A3",
    _DOCS,
    Message("{feature} has no effect on {platform}", "leave it out: it is for A3"),
)
def fused_mc2_platform(facts: Facts, found: Message) -> Iterator[Finding]:
    if _fused(facts) and facts.platform and facts.platform.name != "a3":
        yield found(feature=facts.feature_name(_MC2), platform=facts.platform.description)


@check(
    "fused-mc2-quantization",
    WARNING,
    "fused_mc2 with weights other than W8A8",
    _DOCS,
    Message(
        "{feature} works with W8A8 weights only",
        "leave it out, or serve W8A8 weights with --quantization ascend",
    ),
)
def fused_mc2_quantization(facts: Facts, found: Message) -> Iterator[Finding]:
    if not _fused(facts):
        return
    quantized = value_of(facts.flags, "--quantization") == "ascend"
    bits = facts.model.bits if facts.model else None
    if not quantized or bits not in (None, 8):
        yield found(feature=facts.feature_name(_MC2))


@check(
    "fused-mc2-size",
    WARNING,
    "fused_mc2 beyond the expert parallel size that it supports",
    _CONTEXT,
    Message(
        "{feature} has no effect without expert parallel",
        "add --enable-expert-parallel, or leave it out",
    ),
    Message(
        "{feature}={value} has no effect with expert parallel {size}: {release} uses it up to"
        " {limit}",
        "give 2 on decode nodes, or leave it out",
    ),
)
def fused_mc2_size(facts: Facts, without: Message, beyond: Message) -> Iterator[Finding]:
    value, limit = _fused(facts), facts.release.fused_mc2_largest_ep
    if not value or not limit:
        return
    size, name, source = facts.expert_parallel, facts.feature_name(_MC2), limit["source"]
    if size == 1:
        yield without(source=source, feature=name)
    elif value == limit["value"] and size > limit["size"]:
        named = {"feature": name, "release": facts.release.name, "limit": limit["size"]}
        yield beyond(source=source, value=value, size=size, **named)


@check(
    "flashcomm1-refused",
    ERROR,
    "flashcomm1 with tp 1, or with experts without expert parallel, from v0.13.0rc1",
    "vllm-ascend v0.13.0rc1: vllm_ascend/utils.py:797",
    Message("is refused with tp 1", "leave it out, or set TP_SIZE", "{feature}"),
    Message(
        "is refused for experts without expert parallel",
        "add --enable-expert-parallel, or leave it out",
        "{feature}",
    ),
)
def flashcomm1_refused(facts: Facts, tp: Message, experts: Message) -> Iterator[Finding]:
    rule = facts.release.flashcomm1_asserted
    if not facts.feature(_FLASH) or not rule["by_release"]:
        return
    name = facts.feature_name(_FLASH)
    if facts.place.tp == 1:
        yield tp(source=rule["source"], feature=name)
    elif facts.model and facts.model.moe and not facts.on("--enable-expert-parallel"):
        yield experts(source=rule["source"], feature=name)


@check(
    "flashcomm1-no-effect",
    WARNING,
    "flashcomm1 for a dense model with 1000 batched tokens or fewer, or with tp 1 in v0.11.0",
    _CONTEXT,
    Message("{feature} is for tp > 1", "leave it out, or set TP_SIZE"),
    Message(
        f"{{feature}} needs more than {_DENSE_TOKENS} tokens in a step when a model has no"
        f" experts, and {_TOKENS} is {{tokens}}",
        f"leave it out, or raise {_TOKENS}",
    ),
)
def flashcomm1_no_effect(facts: Facts, tp: Message, few: Message) -> Iterator[Finding]:
    if not facts.feature(_FLASH):
        return
    name, tokens = facts.feature_name(_FLASH), facts.number(_TOKENS)
    if facts.place.tp == 1 and not facts.release.flashcomm1_asserted["by_release"]:
        yield tp(feature=name)
    elif _known_dense(facts) and (tokens or _DENSE_TOKENS + 1) <= _DENSE_TOKENS:
        yield few(feature=name, tokens=tokens)


@check(
    "expert-parallel-dense",
    WARNING,
    "expert parallel for a model without experts",
    _DOCS,
    Message("--enable-expert-parallel: the model has no experts", "leave it out"),
)
def expert_parallel_dense(facts: Facts, found: Message) -> Iterator[Finding]:
    if facts.on("--enable-expert-parallel") and _known_dense(facts):
        yield found()


def _over_a2_nodes(facts: Facts) -> bool:
    on_a2 = facts.platform is not None and facts.platform.name == "a2"
    return on_a2 and facts.place.nodes > 1 and facts.expert_parallel > 1


@check(
    "a2-expert-fabric",
    WARNING,
    "expert parallel over A2 nodes without HCCL's settings for it",
    _OVER_A2,
    Message(
        "expert parallel over A2 nodes can fail with 561000 or EI0007",
        "set {settings} on every node",
    ),
)
def a2_fabric(facts: Facts, found: Message) -> Iterator[Finding]:
    if not _over_a2_nodes(facts):
        return
    wanted = {name: str(v) for name, v in facts.release.a2_expert_parallel["env"].items()}
    if any(facts.env.get(name) != value for name, value in wanted.items()):
        yield found(settings=" and ".join(f"{name}={value}" for name, value in wanted.items()))


@check(
    "a2-expert-size",
    WARNING,
    "expert parallel over A2 nodes with a size that does not work",
    _OVER_A2,
    Message(
        "expert parallel {size} over A2 nodes is not a size that works: {known}",
        "choose TP_SIZE and DP_SIZE whose product is one of these",
    ),
)
def a2_size(facts: Facts, found: Message) -> Iterator[Finding]:
    sizes = facts.release.a2_expert_parallel["sizes"]
    if _over_a2_nodes(facts) and facts.expert_parallel not in sizes:
        yield found(size=facts.expert_parallel, known=", ".join(map(str, sizes)))


CHECKS = (
    fused_mc2_value,
    flashcomm1_refused,
    fused_mc2_platform,
    fused_mc2_quantization,
    fused_mc2_size,
    flashcomm1_no_effect,
    expert_parallel_dense,
    a2_fabric,
    a2_size,
)
