"""Experts, and the features that concern them."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.inputs.arguments import value_of
from entrypoints.launch.facts import Facts
from entrypoints.messages import finding

_MC2 = "fused_mc2"
_FLASH = "flashcomm1"
_TOKENS = "--max-num-batched-tokens"
# vllm-ascend v0.11.0-v0.23.0.post1: vllm_ascend/ascend_forward_context.py, sp_enabled.
_DENSE_TOKENS = 1000


def _fused(facts: Facts) -> int:
    return facts.feature(_MC2) or 0


def _known_dense(facts: Facts) -> bool:
    return facts.model is not None and not facts.model.moe


def fused_mc2_value(facts: Facts) -> Iterator[Finding]:
    form, value = facts.release.features[_MC2], facts.feature(_MC2)
    if value is not None and form.values and value not in form.values:
        known = ", ".join(map(str, form.values))
        name = facts.feature_name(_MC2)
        yield finding("fused-mc2-value", source=form.source, value=value, known=known, feature=name)


def fused_mc2_platform(facts: Facts) -> Iterator[Finding]:
    if _fused(facts) and facts.platform and facts.platform.name != "a3":
        yield finding(
            "fused-mc2-platform",
            feature=facts.feature_name(_MC2),
            platform=facts.platform.description,
        )


def fused_mc2_quantization(facts: Facts) -> Iterator[Finding]:
    if not _fused(facts):
        return
    quantized = value_of(facts.flags, "--quantization") == "ascend"
    bits = facts.model.bits if facts.model else None
    if not quantized or bits not in (None, 8):
        yield finding("fused-mc2-quantization", feature=facts.feature_name(_MC2))


def fused_mc2_size(facts: Facts) -> Iterator[Finding]:
    value, limit = _fused(facts), facts.release.fused_mc2_largest_ep
    if not value or not limit:
        return
    size, name, source = facts.expert_parallel, facts.feature_name(_MC2), limit["source"]
    if size == 1:
        yield finding("fused-mc2-size.without", source=source, feature=name)
    elif value == limit["value"] and size > limit["size"]:
        named = {"feature": name, "release": facts.release.name, "limit": limit["size"]}
        yield finding("fused-mc2-size.beyond", source=source, value=value, size=size, **named)


def flashcomm1_refused(facts: Facts) -> Iterator[Finding]:
    rule = facts.release.flashcomm1_asserted
    if not facts.feature(_FLASH) or not rule["by_release"]:
        return
    name = facts.feature_name(_FLASH)
    if facts.place.tp == 1:
        yield finding("flashcomm1-refused.tp", source=rule["source"], feature=name)
    elif facts.model and facts.model.moe and not facts.on("--enable-expert-parallel"):
        yield finding("flashcomm1-refused.experts", source=rule["source"], feature=name)


def flashcomm1_no_effect(facts: Facts) -> Iterator[Finding]:
    if not facts.feature(_FLASH):
        return
    name, tokens = facts.feature_name(_FLASH), facts.number(_TOKENS)
    if facts.place.tp == 1 and not facts.release.flashcomm1_asserted["by_release"]:
        yield finding("flashcomm1-no-effect.tp", feature=name)
    elif _known_dense(facts) and (tokens or _DENSE_TOKENS + 1) <= _DENSE_TOKENS:
        yield finding("flashcomm1-no-effect.few", feature=name, tokens=tokens)


def expert_parallel_dense(facts: Facts) -> Iterator[Finding]:
    if facts.on("--enable-expert-parallel") and _known_dense(facts):
        yield finding("expert-parallel-dense")


def _over_a2_nodes(facts: Facts) -> bool:
    on_a2 = facts.platform is not None and facts.platform.name == "a2"
    return on_a2 and facts.place.nodes > 1 and facts.expert_parallel > 1


def a2_fabric(facts: Facts) -> Iterator[Finding]:
    if not _over_a2_nodes(facts):
        return
    wanted = {name: str(v) for name, v in facts.release.a2_expert_parallel["env"].items()}
    if any(facts.env.get(name) != value for name, value in wanted.items()):
        yield finding(
            "a2-expert-fabric",
            settings=" and ".join(f"{name}={value}" for name, value in wanted.items()),
        )


def a2_size(facts: Facts) -> Iterator[Finding]:
    sizes = facts.release.a2_expert_parallel["sizes"]
    if _over_a2_nodes(facts) and facts.expert_parallel not in sizes:
        yield finding(
            "a2-expert-size", size=facts.expert_parallel, known=", ".join(map(str, sizes))
        )


RULES = (
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
