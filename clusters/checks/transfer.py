"""The KV transfer: both sides, and what each of them knows of the other."""

from __future__ import annotations

from collections.abc import Iterator

from clusters.checks.facts import KV_TRANSFER, Check, Facts, Found, Serving
from clusters.checks.groups import agree_rules
from clusters.compile.locate import owner
from common.errors import ERROR, WARNING
from entrypoints.inputs.recipes import EXTRA, SIDES
from entrypoints.launch.topology import Place

_KEYS = ("tp_size", "dp_size", "pp_size")


def one_sided(facts: Facts) -> Iterator[Found]:
    sides = facts.sides()
    for side, other in (SIDES, SIDES[::-1]):
        if sides[side] and not sides[other]:
            yield Found(
                owner(sides[side][0].containers[0]),
                f"there is no {other}, and {side} alone serves no request",
                f"add an instance with the role {other}",
            )


def several_sizes(facts: Facts) -> Iterator[Found]:
    """Each side's servers know one size of the other side."""
    for side, those in _sides(facts).items():
        for serving in those[1:]:
            if _sizes(serving.first.place) != _sizes(those[0].first.place):
                yield Found(
                    facts.said("TP_SIZE", serving.first.container, those[0].first.container),
                    f"{serving.group.name} has {_words(serving.first.place)}, and"
                    f" {those[0].group.name} {_words(those[0].first.place)}: the other side can"
                    f" be told of one size of {side}",
                    f"give all {side} instances the same sizes",
                )


def blocks(facts: Facts) -> Iterator[Found]:
    """What a server is told of the other side; its own is compared by its entrypoint."""
    sides = _sides(facts)
    for side, other in (SIDES, SIDES[::-1]):
        if not sides[other]:
            continue
        real = dict(zip(_KEYS, _sizes(sides[other][0].first.place), strict=True))
        for serving in sides[side]:
            for server in serving.servers:
                block = server.transfer.extra.get(other) if server.transfer else None
                if not isinstance(block, dict):
                    continue
                for key, size in real.items():
                    told = block.get(key, 1)
                    if told != size:
                        yield Found(
                            facts.said(KV_TRANSFER, server.container),
                            f"{server.container.name} is told {key} {told} of {other}, which has"
                            f" {size}",
                            f"take the {other} block of {EXTRA} out: it is made from the sizes",
                        )


def disagree(facts: Facts) -> Iterator[Found]:
    lists = agree_rules()["sides"]["refused"]
    yield from _differing(facts, lists["flags"], lists["source"])
    for first, other in _pairs(facts):
        for what, word, one, two in (
            ("serves", "--model", first.first.model, other.first.model),
            (
                "has",
                KV_TRANSFER,
                first.first.transfer and first.first.transfer.connector,
                other.first.transfer and other.first.transfer.connector,
            ),
        ):
            if one != two:
                yield Found(
                    facts.said(word, other.first.container, first.first.container),
                    f"{first.group.name} {what} {one}, {other.group.name} {two}",
                    "give prefill and decode the same",
                )


def differ(facts: Facts) -> Iterator[Found]:
    lists = agree_rules()["sides"]["risky"]
    yield from _differing(facts, lists["flags"], lists["source"])


def _differing(facts: Facts, flags: list[str], source: str) -> Iterator[Found]:
    for first, other in _pairs(facts):
        one, two = first.first, other.first
        for name in (f"--{flag}" for flag in flags):
            if one.flags.get(name) != two.flags.get(name):
                yield Found(
                    facts.said(name, two.container, one.container),
                    f"{name} is {one.shown(name)} for {first.group.name}, and {two.shown(name)} for"
                    f" {other.group.name}",
                    f"give prefill and decode the same {name}",
                    source,
                )


def engine_ids(facts: Facts) -> Iterator[Found]:
    rule = facts.release.kv_engine_id_suffixed
    if rule["by_release"]:
        return
    seen: dict[str, Serving] = {}
    for those in _sides(facts).values():
        for serving in those:
            identity = serving.first.kv_transfer.get("engine_id")
            if identity is None:
                continue
            other = seen.setdefault(str(identity), serving)
            if other is not serving:
                yield Found(
                    facts.said(KV_TRANSFER, serving.first.container, other.first.container),
                    f"{serving.group.name} has the engine_id {identity}, as {other.group.name} has",
                    "take engine_id out: each server then gets its own",
                    rule["source"],
                )


def _sides(facts: Facts) -> dict[str, list[Serving]]:
    return {side: [one for one in facts.serving if one.group.role == side] for side in SIDES}


def _pairs(facts: Facts) -> Iterator[tuple[Serving, Serving]]:
    """Every server of a transfer with the first one, when there are both sides."""
    prefill, decode = _sides(facts).values()
    if prefill and decode:
        for other in (*prefill[1:], *decode):
            yield prefill[0], other


def _sizes(place: Place) -> tuple[int, int, int]:
    return place.tp, place.dp, place.pp


def _words(place: Place) -> str:
    pp = f" pp {place.pp}" if place.pp > 1 else ""
    return f"tp {place.tp} dp {place.dp}{pp}"


CHECKS = (
    Check(
        "one-sided",
        ERROR,
        "prefill without decode, or decode without prefill",
        "vllm-ascend docs: pd_disaggregation_mooncake_multi_node.md",
        one_sided,
    ),
    Check(
        "kv-several-sizes",
        ERROR,
        "instances of one side with different sizes",
        "vllm-ascend#8344, #8345, #8442",
        several_sizes,
    ),
    Check(
        "kv-block-other-side",
        ERROR,
        "a prefill or decode block unlike the sizes of the other side",
        "vllm-ascend#8344, #8345, #8442",
        blocks,
    ),
    Check(
        "sides-disagree",
        ERROR,
        "prefill and decode that cannot read each other's KV cache: clusters/checks/agree.yaml",
        "vllm-ascend v0.13.0rc1: vllm_ascend/distributed/mooncake_connector.py",
        disagree,
    ),
    Check(
        "kv-engine-id-taken",
        ERROR,
        "one engine_id for two servers, in v0.11.0",
        "vllm-ascend v0.11.0: vllm_ascend/distributed/mooncake_connector.py:522",
        engine_ids,
    ),
    Check(
        "sides-differ",
        WARNING,
        "prefill and decode that take different requests: clusters/checks/agree.yaml",
        "vllm-ascend docs: prefill and decode serve the same requests",
        differ,
    ),
)
