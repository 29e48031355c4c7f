"""The KV transfer: both sides, and what each knows about the other."""

from __future__ import annotations

from collections.abc import Iterator

from clusters.checks.definitions import AGREE, check
from clusters.checks.facts import KV_TRANSFER, Facts, Found, Serving
from clusters.compile.locate import owner
from entrypoints.findings import Message
from entrypoints.inputs.recipes import SIDES
from entrypoints.launch.topology import Place

_KEYS = ("tp_size", "dp_size", "pp_size")


@check("one-sided")
def one_sided(facts: Facts, message: Message) -> Found:
    sides = facts.sides()
    for side, other in (SIDES, SIDES[::-1]):
        if sides[side] and not sides[other]:
            yield owner(sides[side][0].containers[0]), message(side=side, other=other)


@check("kv-several-sizes")
def several_sizes(facts: Facts, message: Message) -> Found:
    for side, servings in _sides(facts).items():
        for one in servings[1:]:
            other = servings[0]
            here, there = (_sizes_text(each.first.place) for each in (one, other))
            if here != there:
                path = facts.path_of("TP_SIZE", one.first.container, other.first.container)
                yield path, message(one=one, here=here, other=other, there=there, side=side)


@check("kv-block-other-side")
def blocks(facts: Facts, message: Message) -> Found:
    """The block about the other side; the entrypoint compares the one about its own."""
    sides = _sides(facts)
    for side, other in (SIDES, SIDES[::-1]):
        if not sides[other]:
            continue
        real = dict(zip(_KEYS, _sizes(sides[other][0].first.place), strict=True))
        for server in (server for serving in sides[side] for server in serving.servers):
            block = server.transfer.extra.get(other) if server.transfer else None
            if not isinstance(block, dict):
                continue
            for key, size in real.items():
                if (given := block.get(key, 1)) != size:
                    name = server.container.name
                    found = message(server=name, key=key, given=given, other=other, size=size)
                    yield facts.path_of(KV_TRANSFER, server.container), found


@check("sides-disagree")
def disagree(facts: Facts, flag: Message, model: Message, connector: Message) -> Found:
    yield from _differing(facts, flag, "refused")
    for first, second in _pairs(facts):
        one, two = first.first, second.first
        for message, name, here, there in (
            (model, "--model", one.model, two.model),
            (
                connector,
                KV_TRANSFER,
                one.transfer and one.transfer.connector,
                two.transfer and two.transfer.connector,
            ),
        ):
            if here != there:
                path = facts.path_of(name, two.container, one.container)
                yield path, message(one=first.group, here=here, other=second.group, there=there)


@check("kv-engine-id-taken")
def engine_ids(facts: Facts, message: Message) -> Found:
    rule = facts.release.kv_engine_id_suffixed
    if rule["by_release"]:
        return
    seen: dict[str, Serving] = {}
    for serving in (one for servings in _sides(facts).values() for one in servings):
        identity = serving.first.kv_transfer.get("engine_id")
        if identity is None:
            continue
        other = seen.setdefault(str(identity), serving)
        if other is not serving:
            path = facts.path_of(KV_TRANSFER, serving.first.container, other.first.container)
            one, two, source = serving.group, other.group, rule["source"]
            yield path, message(one=one, other=two, id=identity, source=source)


@check("sides-differ")
def differ(facts: Facts, message: Message) -> Found:
    return _differing(facts, message, "risky")


def _differing(facts: Facts, message: Message, kind: str) -> Found:
    rules = AGREE["sides"][kind]
    for first, second in _pairs(facts):
        one, two = first.first, second.first
        for name in (f"--{flag}" for flag in rules["flags"]):
            if one.flags.get(name) != two.flags.get(name):
                found = message(
                    flag=name,
                    here=one.shown(name),
                    one=first.group,
                    there=two.shown(name),
                    other=second.group,
                    source=rules["source"],
                )
                yield facts.path_of(name, two.container, one.container), found


def _sides(facts: Facts) -> dict[str, list[Serving]]:
    return {side: [one for one in facts.serving if one.group.role == side] for side in SIDES}


def _pairs(facts: Facts) -> Iterator[tuple[Serving, Serving]]:
    """The first prefill server with each other server of the transfer, if there are both sides."""
    prefill, decode = _sides(facts).values()
    if prefill and decode:
        for other in (*prefill[1:], *decode):
            yield prefill[0], other


def _sizes(place: Place) -> tuple[int, int, int]:
    return place.tp, place.dp, place.pp


def _sizes_text(place: Place) -> str:
    pp = f" pp {place.pp}" if place.pp > 1 else ""
    return f"tp {place.tp} dp {place.dp}{pp}"
