"""The KV transfer between prefill and decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrypoints.inputs.recipes import EXTRA, SIDES
from entrypoints.launch.topology import NODES, RAY
from entrypoints.problems import choose
from entrypoints.record import TYPE_CHECKING
from entrypoints.rules.facts import ERROR, WARNING, Check, Facts, Found

if TYPE_CHECKING:
    from typing import Any

_FLAG = "--kv-transfer-config"
_BLOCKS = f"{_FLAG}.{EXTRA}"


def _parts(raw: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The config and, under MultiConnector, each one within it."""
    if isinstance(raw, dict) and depth < 4:
        yield raw
        extra = raw.get(EXTRA)
        inner = extra.get("connectors") if isinstance(extra, dict) else None
        for part in inner if isinstance(inner, list) else ():
            yield from _parts(part, depth + 1)


def _tp_sizes(facts: Facts) -> Iterator[int]:
    """Tensor parallel size of prefill and of decode, as far as they are written."""
    for side in SIDES:
        block = facts.transfer.extra.get(side) if facts.transfer else None
        size = block.get("tp_size") if isinstance(block, dict) else None
        if type(size) is int and size > 0:
            yield size


def connector_unknown(facts: Facts) -> Iterator[Found]:
    known = facts.release.connectors
    for part in _parts(facts.json(_FLAG)):
        name = str(part.get("kv_connector") or "")
        elsewhere = name in known or name in facts.release.connectors_gone
        if name and not elsewhere and not part.get("kv_connector_module_path"):
            yield Found(
                f"{name!r} is not a connector of {facts.release.name}",
                choose(name, known),
                f"{_FLAG}.kv_connector",
                [*known.values()][-1],
            )


def connector_gone(facts: Facts) -> Iterator[Found]:
    for part in _parts(facts.json(_FLAG)):
        gone = facts.release.connectors_gone.get(str(part.get("kv_connector")))
        if gone and not part.get("kv_connector_module_path"):
            yield Found(
                f"{part['kv_connector']} is gone in {facts.release.name}",
                f"use {gone['instead']}",
                f"{_FLAG}.kv_connector",
                gone["source"],
            )


def module_path(facts: Facts) -> Iterator[Found]:
    for part in _parts(facts.json(_FLAG)):
        source = facts.release.connectors.get(str(part.get("kv_connector")))
        if source and part.get("kv_connector_module_path"):
            yield Found(
                f"kv_connector_module_path is not read: {facts.release.name} knows"
                f" {part['kv_connector']} by its name",
                "take the path out of the recipe",
                source=source,
            )


def role_contradicts(facts: Facts) -> Iterator[Found]:
    expected = facts.place.group.kv_role
    said = facts.transfer.role if facts.transfer else ""
    if expected and said not in ("", "kv_both", expected):
        yield Found(
            f"{said!r} contradicts {facts.place.group.name}, which is {expected}",
            "take it out: it follows from the role",
            f"{_FLAG}.kv_role",
        )


def engine_ids(facts: Facts) -> Iterator[Found]:
    rule, recipe = facts.release.kv_engine_id_suffixed, facts.recipe
    if rule["by_release"] or recipe is None or not all(side in recipe.groups for side in SIDES):
        return
    first, second = (recipe.groups[side].kv_transfer.get("engine_id") for side in SIDES)
    if first is not None and str(first) == str(second):
        yield Found(
            f"prefill and decode have the same engine_id, {first}",
            "give each side another one",
            f"{recipe.name}: kv_transfer.engine_id",
            rule["source"],
        )


def tp_shapes(facts: Facts) -> Iterator[Found]:
    sizes = tuple(_tp_sizes(facts))
    if facts.transfer is None or not facts.transfer.mooncake or len(sizes) != 2:
        return
    prefill, decode = sizes
    if prefill < decode or prefill % decode:
        why = "smaller than" if prefill < decode else "no multiple of"
        yield Found(
            f"prefill's tp {prefill} is {why} decode's tp {decode}",
            "make prefill's tp a multiple of decode's",
            _BLOCKS,
        )


def _own_block(facts: Facts) -> Iterator[Found]:
    place = facts.place
    block = facts.transfer.extra.get(place.group.name) if facts.transfer else None
    if not place.group.kv_role or not isinstance(block, dict):
        return
    for key, real in (("tp_size", place.tp), ("dp_size", place.dp)):
        if key in block and block[key] != real:
            yield Found(
                f"{block[key]!r} in the {place.group.name} block, and this node has {real}",
                "take the block out: it is made from the sizes",
                f"{_BLOCKS}.{place.group.name}.{key}",
                facts.release.kv_blocks_checked["source"],
            )


def block_refused(facts: Facts) -> Iterator[Found]:
    if facts.release.kv_blocks_checked["by_release"]:
        yield from _own_block(facts)


def block_wrong(facts: Facts) -> Iterator[Found]:
    if not facts.release.kv_blocks_checked["by_release"]:
        yield from _own_block(facts)


def unread_keys(facts: Facts) -> Iterator[Found]:
    for key, source in facts.release.kv_extra_config_unread.items():
        if facts.transfer and key in facts.transfer.extra:
            yield Found(
                f"{key} in {EXTRA} has no effect in {facts.release.name}",
                "take it out of the recipe",
                source=source,
            )


def sizes_changed(facts: Facts) -> Iterator[Found]:
    """Sizes changed here, which the nodes of the other side cannot know of."""
    place, recipe = facts.place, facts.recipe
    if recipe is None or not place.group.kv_role or facts.transfer is None:
        return
    theirs = recipe.groups[place.group.name].sizes
    if place.sizes[:3] != theirs[:3]:
        flag = f"{_BLOCKS}.{place.group.name}"
        yield Found(
            f"the {place.group.name} sizes are not the recipe's, and the other side still"
            " expects those",
            f"give the other side's nodes {flag}.tp_size {place.tp} and {flag}.dp_size {place.dp}",
        )


def prefill_over_nodes(facts: Facts) -> Iterator[Found]:
    place, rule = facts.place, facts.release.prefill_over_nodes
    spread = place.layout in (NODES, RAY) and place.nodes > 1
    mooncake = facts.transfer is not None and facts.transfer.mooncake
    if spread and mooncake and place.group.kv_role == "kv_producer" and not rule["works"]:
        yield Found(
            f"{facts.release.name} cannot send the KV cache of one rank on {place.nodes} nodes",
            "keep each prefill rank on one node, or use v0.13.0 or later",
            "NODES",
            rule["source"],
        )


CHECKS = (
    Check(
        "kv-connector-unknown",
        ERROR,
        "a connector that the release does not register",
        "vllm: vllm/distributed/kv_transfer/kv_connector/factory.py",
        connector_unknown,
    ),
    Check(
        "kv-connector-gone",
        ERROR,
        "a connector of an earlier release",
        "vllm-ascend: vllm_ascend/distributed",
        connector_gone,
    ),
    Check(
        "kv-role-contradicts",
        ERROR,
        "a kv_role that is not that of ROLE",
        "vllm-ascend docs: prefill is kv_producer, decode kv_consumer",
        role_contradicts,
    ),
    Check(
        "kv-engine-id-equal",
        ERROR,
        "equal engine_ids of prefill and decode, in v0.11.0",
        "vllm-ascend v0.11.0: vllm_ascend/distributed/mooncake_connector.py:522",
        engine_ids,
    ),
    Check(
        "kv-tp-shape",
        ERROR,
        "prefill's tp smaller than decode's or no multiple of it",
        "vllm-ascend v0.13.0rc1: vllm_ascend/distributed/mooncake_connector.py:984,"
        " vllm_ascend/ascend_config.py:90; vllm-ascend#16723",
        tp_shapes,
    ),
    Check(
        "kv-block-refused",
        ERROR,
        "a prefill or decode block unlike this node's sizes, from v0.12.0rc1",
        "vllm-ascend#8344, #8345, #8442",
        block_refused,
    ),
    Check(
        "prefill-over-nodes",
        ERROR,
        "one prefill rank over several nodes, before v0.13.0",
        "vllm-ascend PR #5961",
        prefill_over_nodes,
    ),
    Check(
        "kv-block-wrong",
        WARNING,
        "the same, where the release does not compare",
        "vllm-ascend#8344, #8345, #8442",
        block_wrong,
    ),
    Check(
        "kv-module-path",
        WARNING,
        "kv_connector_module_path for a registered connector",
        "vllm: vllm/distributed/kv_transfer/kv_connector/factory.py",
        module_path,
    ),
    Check(
        "kv-key-unread",
        WARNING,
        "a key of kv_connector_extra_config that nothing reads",
        "vllm-ascend#4866, #5635, #3724",
        unread_keys,
    ),
    Check(
        "kv-sizes-changed",
        WARNING,
        "sizes unlike the recipe's, which the other side does not know",
        "vllm-ascend#8344",
        sizes_changed,
    ),
)
