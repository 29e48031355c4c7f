"""The nodes of one server: their ranks, and the settings that must be equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from clusters.checks.definitions import AGREE, check
from clusters.checks.facts import (
    KV_TRANSFER,
    Facts,
    Found,
    Server,
    Serving,
    effective_environment,
)
from clusters.compile import recipe
from clusters.deployment import Container
from entrypoints.findings import Message
from entrypoints.inputs.arguments import json_of
from entrypoints.launch.topology import DATA_PARALLEL, EXTERNAL, NODES

# Keys of the KV transfer that each node has for itself.
_PER_NODE_KEYS = ("kv_port", "engine_id")
_RULES = AGREE["group"]
# Flags that must be equal, with the source of that; and flags of a single node.
_SOURCES = {
    f"--{flag}": _RULES[kind]["source"]
    for kind in ("unnoticed", "compared")
    for flag in _RULES[kind]["flags"]
}
_OWN = frozenset(f"--{flag}" for flag in _RULES["own"])
_RANK_FLAGS = {
    DATA_PARALLEL: "--data-parallel-start-rank",
    EXTERNAL: "--data-parallel-rank",
    NODES: "--node-rank",
}


@check("rank-coverage")
def ranks(facts: Facts, gap: Message, twice: Message, beyond: Message) -> Found:
    for serving in facts.serving:
        flag, total, spans = _ranks(serving)
        rank = 0
        for first, count, server in spans:
            if first == rank and first + count <= total:
                rank += count
                continue
            one, last = server.container, first + count - 1
            message = gap if first > rank else twice if first < rank else beyond
            found = message(flag=flag, rank=rank, one=one, first=first, last=last, total=total)
            yield facts.path_of(flag, one), found
            break


def _ranks(serving: Serving) -> tuple[str, int, list[tuple[int, int, Server]]]:
    """The flag for a container's first rank, the number of ranks, and (first, count, server)."""
    place = serving.first.place
    flag, nodes = _RANK_FLAGS.get(place.layout, ""), place.layout == NODES
    if not flag or (not nodes and place.dp_local * place.nodes != place.dp):
        return flag, 0, []  # the entrypoint reports a mismatch
    spans = [
        (one.number(flag) or 0, 1 if nodes else one.place.ranks_here, one)
        for one in serving.servers
    ]
    return flag, place.nodes if nodes else place.dp, sorted(spans, key=lambda span: span[:2])


def _typical(containers: Sequence[Container], facts: Facts) -> Container:
    """A container without its own overrides, else the first."""
    overrides = facts.cluster.instances[containers[0].instance].overrides
    return next((one for one in containers if one.node.name not in overrides), containers[0])


def _pairs(facts: Facts) -> Iterator[tuple[Server, Server]]:
    """Each server, with the typical one of its group."""
    for serving in facts.serving:
        container = _typical([server.container for server in serving.servers], facts)
        typical = next(server for server in serving.servers if server.container is container)
        yield from ((server, typical) for server in serving.servers if server is not typical)


def _flag(server: Server, name: str) -> object:
    """The part of a flag's value that must be equal."""
    if name == KV_TRANSFER and isinstance(raw := json_of(server.flags, name), dict):
        return {key: value for key, value in raw.items() if key not in _PER_NODE_KEYS}
    return server.flags.get(name)


def _differing(
    facts: Facts, values: Message, transfer: Message, wanted: Callable[[str], bool]
) -> Found:
    """Findings about the wanted flags in which a server differs from the typical one of its group.

    A KV transfer is reported without its value.
    """
    for server, typical in _pairs(facts):
        for name in {**typical.flags, **server.flags}:
            if wanted(name) and _flag(server, name) != _flag(typical, name):
                one, other, message = server.node, typical.node, values
                if name == KV_TRANSFER:
                    message = transfer
                here, there, source = (
                    server.shown(name),
                    typical.shown(name),
                    _SOURCES.get(name, ""),
                )
                found = message(
                    flag=name, one=one, here=here, other=other, there=there, source=source
                )
                yield facts.path_of(name, server.container, typical.container), found


@check("group-mismatch")
def mismatch(facts: Facts, values: Message, transfer: Message, model: Message) -> Found:
    yield from _differing(facts, values, transfer, lambda name: name in _SOURCES)
    for server, typical in _pairs(facts):
        if server.model != typical.model:
            path = facts.path_of("--model", server.container, typical.container)
            yield path, model(one=server, other=typical)


@check("leader-address")
def leader(facts: Facts, message: Message) -> Found:
    """All nodes can agree on a wrong address."""
    for serving in facts.serving:
        first = serving.first.node
        for flag in ("--data-parallel-address", "--master-addr"):
            address = serving.first.value(flag)
            if address and first.address and address != first.address:
                path = facts.path_of(flag, serving.first.container)
                yield path, message(flag=flag, address=address, node=first)


@check("uneven-spread")
def uneven_spread(facts: Facts, message: Message) -> Found:
    for serving in facts.serving:
        place = serving.first.place
        if place.layout == NODES and place.world % place.nodes:
            yield facts.path_of("TP_SIZE", serving.first.container), message(at=place)


@check("role-beside-recipe")
def role_not_in_recipe(facts: Facts, message: Message) -> Found:
    """Without the role in the recipe, only the cluster file describes the instance."""
    roles = recipe.groups(facts.cluster) if facts.serving else ()
    for group in (serving.group for serving in facts.serving):
        if roles and group.role not in roles:
            at = ("instances", group.instance)
            found = message(group=group, roles=", ".join(roles))
            yield facts.first_given((*at, "role"), at), found


@check("group-uneven")
def uneven(facts: Facts, values: Message, transfer: Message) -> Found:
    return _differing(facts, values, transfer, lambda name: name not in {*_SOURCES, *_OWN})


@check("group-environment")
def variables(facts: Facts, message: Message) -> Found:
    rule = _RULES["env"]
    prefixes, names, own = tuple(rule["prefixes"]), rule["names"], rule["own"]
    for serving in facts.serving:
        typical = _typical(serving.group.containers, facts)
        theirs = effective_environment(typical)
        for container in serving.group.containers:
            ours = effective_environment(container) if container is not typical else theirs
            for name in {**theirs, **ours} if ours != theirs else ():
                matters = (name.startswith(prefixes) or name in names) and name not in own
                here, there = ours.get(name, "not set"), theirs.get(name, "not set")
                if matters and here != there:
                    one, other = container.node, typical.node
                    found = message(name=name, one=one, here=here, other=other, there=there)
                    yield facts.path_of(name, container, typical), found


@check("mixed-platforms")
def platforms(facts: Facts, message: Message) -> Found:
    for group in facts.deployment.groups:
        first = group.containers[0].node
        for node in (container.node for container in group.containers):
            if node.platform != first.platform:
                at = ("nodes", node.name)
                found = message(group=group, one=node, other=first)
                yield facts.first_given((*at, "platform"), at), found
