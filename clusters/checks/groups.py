"""The nodes of one server: their ranks, and the settings that must be equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from entrypoints.findings import Finding, Message
from entrypoints.inputs.arguments import json_of
from entrypoints.launch.topology import DATA_PARALLEL, EXTERNAL, NODES

# Keys of the KV transfer that each node has for itself.
_PER_NODE_KEYS = ("kv_port", "engine_id")


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
    flags = {
        DATA_PARALLEL: "--data-parallel-start-rank",
        EXTERNAL: "--data-parallel-rank",
        NODES: "--node-rank",
    }
    flag = flags.get(place.layout, "")
    mismatch = place.layout != NODES and place.dp_local * place.nodes != place.dp
    if not flag or mismatch:  # the entrypoint reports a mismatch
        return flag, 0, []
    spans = [
        (
            server.number(flag) or 0,
            server.place.ranks_here if place.layout != NODES else 1,
            server,
        )
        for server in serving.servers
    ]
    total = place.nodes if place.layout == NODES else place.dp
    return flag, total, sorted(spans, key=lambda span: span[:2])


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


def _differing(facts: Facts) -> Iterator[tuple[str, Server, Server]]:
    """Flags in which a server differs from the typical one of its group."""
    for server, typical in _pairs(facts):
        for name in {**typical.flags, **server.flags}:
            if _flag(server, name) != _flag(typical, name):
                yield name, server, typical


def _report(values: Message, transfer: Message, name: str, one: Server, other: Server) -> Finding:
    """The finding about a flag in which two nodes differ; of a KV transfer without its value."""
    message = transfer if name == KV_TRANSFER else values
    here, there = one.shown(name), other.shown(name)
    return message(flag=name, one=one.node, here=here, other=other.node, there=there)


@check("group-mismatch")
def mismatch(facts: Facts, values: Message, transfer: Message, model: Message) -> Found:
    rules = AGREE["group"]
    sources = {
        f"--{flag}": rules[kind]["source"]
        for kind in ("unnoticed", "compared")
        for flag in rules[kind]["flags"]
    }
    for name, server, typical in _differing(facts):
        if name in sources:
            finding = _report(values, transfer, name, server, typical)
            path = facts.path_of(name, server.container, typical.container)
            yield path, finding._replace(source=sources[name])
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
    rules = AGREE["group"]
    known = {
        f"--{flag}"
        for flags in (rules["own"], rules["compared"]["flags"], rules["unnoticed"]["flags"])
        for flag in flags
    }
    for name, server, typical in _differing(facts):
        if name not in known:
            path = facts.path_of(name, server.container, typical.container)
            yield path, _report(values, transfer, name, server, typical)


@check("group-environment")
def variables(facts: Facts, message: Message) -> Found:
    rule = AGREE["group"]["env"]
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
