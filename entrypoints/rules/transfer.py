"""The KV transfer between prefill and decode."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding, did_you_mean
from entrypoints.inputs.recipes import EXTRA, SIDES
from entrypoints.launch import kv
from entrypoints.launch.facts import Facts
from entrypoints.launch.topology import NODES, RAY
from entrypoints.messages import finding

_FLAG = "--kv-transfer-config"


def _named(facts: Facts, with_path: bool) -> Iterator[str]:
    """The connectors that the config names, with or without a kv_connector_module_path."""
    for part in kv.each(facts.json(_FLAG)):
        if bool(part.get("kv_connector_module_path")) == with_path:
            yield kv.name_of(part)


def connector_unknown(facts: Facts) -> Iterator[Finding]:
    release = facts.release
    known = release.connectors
    for name in _named(facts, with_path=False):
        if name and name not in known and name not in release.connectors_gone:
            source = [*known.values()][-1]
            suggestion = did_you_mean(name, known)
            yield finding(
                "kv-connector-unknown",
                source=source,
                name=name,
                release=release.name,
                known=suggestion,
            )


def connector_gone(facts: Facts) -> Iterator[Finding]:
    for name in _named(facts, with_path=False):
        gone = facts.release.connectors_gone.get(name)
        if gone:
            yield finding("kv-connector-gone", name=name, release=facts.release.name, **gone)


def module_path(facts: Facts) -> Iterator[Finding]:
    for name in _named(facts, with_path=True):
        source = facts.release.connectors.get(name)
        if source:
            yield finding("kv-module-path", source=source, release=facts.release.name, name=name)


def role_contradicts(facts: Facts) -> Iterator[Finding]:
    group = facts.place.group
    given = facts.transfer.role if facts.transfer else ""
    if group.kv_role and given not in ("", "kv_both", group.kv_role):
        yield finding("kv-role-contradicts", given=given, role=group.name, expected=group.kv_role)


def engine_ids(facts: Facts) -> Iterator[Finding]:
    rule, recipe = facts.release.kv_engine_id_suffixed, facts.recipe
    if rule["by_release"] or recipe is None or not all(side in recipe.groups for side in SIDES):
        return
    first, second = (recipe.groups[side].kv_transfer.get("engine_id") for side in SIDES)
    if first is not None and str(first) == str(second):
        yield finding(
            "kv-engine-id-equal", source=rule["source"], recipe=recipe.name, engine_id=first
        )


def _tp_sizes(facts: Facts) -> Iterator[int]:
    """Tensor parallel size of prefill and of decode, as far as they are given."""
    for side in SIDES:
        block = facts.transfer.extra.get(side) if facts.transfer else None
        size = block.get("tp_size") if isinstance(block, dict) else None
        if type(size) is int and size > 0:
            yield size


def tp_shapes(facts: Facts) -> Iterator[Finding]:
    sizes = tuple(_tp_sizes(facts))
    if facts.transfer is None or not facts.transfer.mooncake or len(sizes) != 2:
        return
    prefill, decode = sizes
    if prefill < decode or prefill % decode:
        how = "smaller" if prefill < decode else "uneven"
        yield finding(f"kv-tp-shape.{how}", prefill=prefill, decode=decode)


def own_block(facts: Facts) -> Iterator[Finding]:
    """A prefill or decode block that differs from this node's sizes."""
    place, rule = facts.place, facts.release.kv_blocks_checked
    block = facts.transfer.extra.get(place.group.name) if facts.transfer else None
    if not place.group.kv_role or not isinstance(block, dict):
        return
    code = "kv-block-refused" if rule["by_release"] else "kv-block-wrong"
    for key, real in (("tp_size", place.tp), ("dp_size", place.dp)):
        if key in block and block[key] != real:
            values = {"group": place.group.name, "key": key, "given": block[key], "real": real}
            yield finding(code, source=rule["source"], **values)


def unread_keys(facts: Facts) -> Iterator[Finding]:
    if not facts.transfer:
        return
    from entrypoints.inputs import keys  # reads the catalogue

    for part in kv.each(facts.json(_FLAG)):
        name, extra = kv.name_of(part), part.get(EXTRA)
        if isinstance(extra, dict) and not part.get("kv_connector_module_path"):
            for key, advice, source in keys.unread_extra(name, extra, facts.release):
                named = {"key": key, "name": name, "release": facts.release.name}
                yield finding("kv-key-unread", source=source, advice=advice, **named)


def sizes_changed(facts: Facts) -> Iterator[Finding]:
    """Sizes changed here, which the nodes of the other side cannot know of."""
    place, recipe = facts.place, facts.recipe
    if recipe is None or not place.group.kv_role or facts.transfer is None:
        return
    if place.sizes[:3] != recipe.groups[place.group.name].sizes[:3]:
        yield finding("kv-sizes-changed", group=place.group.name, tp=place.tp, dp=place.dp)


def prefill_over_nodes(facts: Facts) -> Iterator[Finding]:
    place, rule = facts.place, facts.release.prefill_over_nodes
    spread = place.layout in (NODES, RAY) and place.nodes > 1
    mooncake = facts.transfer is not None and facts.transfer.mooncake
    if spread and mooncake and place.group.kv_role == "kv_producer" and not rule["works"]:
        yield finding(
            "prefill-over-nodes",
            source=rule["source"],
            release=facts.release.name,
            nodes=place.nodes,
        )


RULES = (
    connector_unknown,
    connector_gone,
    role_contradicts,
    engine_ids,
    tp_shapes,
    own_block,
    prefill_over_nodes,
    module_path,
    unread_keys,
    sizes_changed,
)
