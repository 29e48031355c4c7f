"""The KV transfer between prefill and decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrypoints.findings import ERROR, WARNING, Finding, Message, check, did_you_mean
from entrypoints.inputs.recipes import EXTRA, SIDES
from entrypoints.launch.facts import Facts
from entrypoints.launch.topology import NODES, RAY
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_FLAG = "--kv-transfer-config"
_CONNECTOR = f"{_FLAG}.kv_connector"
_BLOCKS = f"{_FLAG}.{EXTRA}"
_FACTORY = "vllm: vllm/distributed/kv_transfer/kv_connector/factory.py"
_SIZES_DIFFER = "vllm-ascend#8344, #8345, #8442"


def _parts(raw: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The config and, under MultiConnector, each one within it."""
    if isinstance(raw, dict) and depth < 4:
        yield raw
        extra = raw.get(EXTRA)
        inner = extra.get("connectors") if isinstance(extra, dict) else None
        for part in inner if isinstance(inner, list) else ():
            yield from _parts(part, depth + 1)


def _named(facts: Facts, with_path: bool) -> Iterator[str]:
    """The connectors that the config names, with or without a kv_connector_module_path."""
    for part in _parts(facts.json(_FLAG)):
        if bool(part.get("kv_connector_module_path")) == with_path:
            yield str(part.get("kv_connector") or "")


@check(
    "kv-connector-unknown",
    ERROR,
    "a connector that the release does not register",
    _FACTORY,
    Message("{name!r} is not a connector of {release}", "{known}", _CONNECTOR),
)
def connector_unknown(facts: Facts, found: Message) -> Iterator[Finding]:
    release = facts.release
    known = release.connectors
    for name in _named(facts, with_path=False):
        if name and name not in known and name not in release.connectors_gone:
            source = [*known.values()][-1]
            suggestion = did_you_mean(name, known)
            yield found(source=source, name=name, release=release.name, known=suggestion)


@check(
    "kv-connector-gone",
    ERROR,
    "a connector of an earlier release",
    "vllm-ascend: vllm_ascend/distributed",
    Message("{name} is gone in {release}", "use {instead}", _CONNECTOR),
)
def connector_gone(facts: Facts, found: Message) -> Iterator[Finding]:
    for name in _named(facts, with_path=False):
        gone = facts.release.connectors_gone.get(name)
        if gone:
            yield found(name=name, release=facts.release.name, **gone)


@check(
    "kv-module-path",
    WARNING,
    "kv_connector_module_path for a registered connector",
    _FACTORY,
    Message(
        "kv_connector_module_path has no effect: {release} registers {name}",
        "remove the path from the recipe",
    ),
)
def module_path(facts: Facts, found: Message) -> Iterator[Finding]:
    for name in _named(facts, with_path=True):
        source = facts.release.connectors.get(name)
        if source:
            yield found(source=source, release=facts.release.name, name=name)


@check(
    "kv-role-contradicts",
    ERROR,
    "a kv_role that is not that of ROLE",
    "vllm-ascend docs: prefill is kv_producer, decode kv_consumer",
    Message(
        "{given!r} contradicts {role}, which is {expected}",
        "remove it: it follows from the role",
        f"{_FLAG}.kv_role",
    ),
)
def role_contradicts(facts: Facts, found: Message) -> Iterator[Finding]:
    group = facts.place.group
    given = facts.transfer.role if facts.transfer else ""
    if group.kv_role and given not in ("", "kv_both", group.kv_role):
        yield found(given=given, role=group.name, expected=group.kv_role)


@check(
    "kv-engine-id-equal",
    ERROR,
    "equal engine_ids of prefill and decode, in v0.11.0",
    "vllm-ascend v0.11.0: vllm_ascend/distributed/mooncake_connector.py:522",
    Message(
        "prefill and decode have the same engine_id, {engine_id}",
        "give each side its own",
        "{recipe}: kv_transfer.engine_id",
    ),
)
def engine_ids(facts: Facts, found: Message) -> Iterator[Finding]:
    rule, recipe = facts.release.kv_engine_id_suffixed, facts.recipe
    if rule["by_release"] or recipe is None or not all(side in recipe.groups for side in SIDES):
        return
    first, second = (recipe.groups[side].kv_transfer.get("engine_id") for side in SIDES)
    if first is not None and str(first) == str(second):
        yield found(source=rule["source"], recipe=recipe.name, engine_id=first)


def _tp_sizes(facts: Facts) -> Iterator[int]:
    """Tensor parallel size of prefill and of decode, as far as they are given."""
    for side in SIDES:
        block = facts.transfer.extra.get(side) if facts.transfer else None
        size = block.get("tp_size") if isinstance(block, dict) else None
        if type(size) is int and size > 0:
            yield size


_MULTIPLE = "make prefill's tp a multiple of decode's"


@check(
    "kv-tp-shape",
    ERROR,
    "prefill's tp smaller than decode's or not a multiple of it",
    "vllm-ascend v0.13.0rc1: vllm_ascend/distributed/mooncake_connector.py:984,"
    " vllm_ascend/ascend_config.py:90; vllm-ascend#16723",
    Message("prefill's tp {prefill} is smaller than decode's tp {decode}", _MULTIPLE, _BLOCKS),
    Message("prefill's tp {prefill} is not a multiple of decode's tp {decode}", _MULTIPLE, _BLOCKS),
)
def tp_shapes(facts: Facts, smaller: Message, uneven: Message) -> Iterator[Finding]:
    sizes = tuple(_tp_sizes(facts))
    if facts.transfer is None or not facts.transfer.mooncake or len(sizes) != 2:
        return
    prefill, decode = sizes
    if prefill < decode or prefill % decode:
        found = smaller if prefill < decode else uneven
        yield found(prefill=prefill, decode=decode)


def _own_block(facts: Facts, found: Message) -> Iterator[Finding]:
    place = facts.place
    block = facts.transfer.extra.get(place.group.name) if facts.transfer else None
    if not place.group.kv_role or not isinstance(block, dict):
        return
    source = facts.release.kv_blocks_checked["source"]
    for key, real in (("tp_size", place.tp), ("dp_size", place.dp)):
        if key in block and block[key] != real:
            values = {"group": place.group.name, "key": key, "given": block[key], "real": real}
            yield found(source=source, **values)


_BLOCK = (
    "{given!r} in the {group} block, and this node has {real}",
    "remove the block: it is made from the sizes",
)


@check(
    "kv-block-refused",
    ERROR,
    "a prefill or decode block that differs from this node's sizes, from v0.12.0rc1",
    _SIZES_DIFFER,
    Message(*_BLOCK, f"{_BLOCKS}.{{group}}.{{key}}"),
)
def block_refused(facts: Facts, found: Message) -> Iterator[Finding]:
    if facts.release.kv_blocks_checked["by_release"]:
        yield from _own_block(facts, found)


@check(
    "kv-block-wrong",
    WARNING,
    "a prefill or decode block that differs from this node's sizes, before v0.12.0rc1",
    _SIZES_DIFFER,
    Message(*_BLOCK),
)
def block_wrong(facts: Facts, found: Message) -> Iterator[Finding]:
    if not facts.release.kv_blocks_checked["by_release"]:
        yield from _own_block(facts, found)


@check(
    "kv-key-unread",
    WARNING,
    "a key of kv_connector_extra_config that nothing reads",
    "vllm-ascend#4866, #5635, #3724",
    Message(f"{{key}} in {EXTRA} has no effect in {{release}}", "remove it from the recipe"),
)
def unread_keys(facts: Facts, found: Message) -> Iterator[Finding]:
    for key, source in facts.release.kv_extra_config_unread.items():
        if facts.transfer and key in facts.transfer.extra:
            yield found(source=source, key=key, release=facts.release.name)


@check(
    "kv-sizes-changed",
    WARNING,
    "sizes that differ from the recipe's, which the other side does not know",
    "vllm-ascend#8344",
    Message(
        "the {group} sizes are not the recipe's, and the other side still expects those",
        f"give the other side's nodes {_BLOCKS}.{{group}}.tp_size {{tp}} and"
        f" {_BLOCKS}.{{group}}.dp_size {{dp}}",
    ),
)
def sizes_changed(facts: Facts, found: Message) -> Iterator[Finding]:
    """Sizes changed here, which the nodes of the other side cannot know of."""
    place, recipe = facts.place, facts.recipe
    if recipe is None or not place.group.kv_role or facts.transfer is None:
        return
    if place.sizes[:3] != recipe.groups[place.group.name].sizes[:3]:
        yield found(group=place.group.name, tp=place.tp, dp=place.dp)


@check(
    "prefill-over-nodes",
    ERROR,
    "one prefill rank over several nodes, before v0.13.0",
    "vllm-ascend PR #5961",
    Message(
        "{release} cannot send the KV cache of one rank on {nodes} nodes",
        "keep each prefill rank on one node, or use v0.13.0 or later",
        "NODES",
    ),
)
def prefill_over_nodes(facts: Facts, found: Message) -> Iterator[Finding]:
    place, rule = facts.place, facts.release.prefill_over_nodes
    spread = place.layout in (NODES, RAY) and place.nodes > 1
    mooncake = facts.transfer is not None and facts.transfer.mooncake
    if spread and mooncake and place.group.kv_role == "kv_producer" and not rule["works"]:
        yield found(source=rule["source"], release=facts.release.name, nodes=place.nodes)


CHECKS = (
    connector_unknown,
    connector_gone,
    role_contradicts,
    engine_ids,
    tp_shapes,
    block_refused,
    prefill_over_nodes,
    block_wrong,
    module_path,
    unread_keys,
    sizes_changed,
)
