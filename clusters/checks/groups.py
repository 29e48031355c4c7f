"""The nodes of one server: their ranks, and the settings that must be equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path as FilePath
from typing import Any

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
from entrypoints.findings import ERROR, WARNING, Finding, Message, check
from entrypoints.inputs import data
from entrypoints.inputs.arguments import json_of
from entrypoints.launch.topology import DATA_PARALLEL, EXTERNAL, NODES

_PATH = FilePath(__file__).with_name("agree.yaml")
# Keys of the KV transfer that each node has for itself.
_PER_NODE_KEYS = ("kv_port", "engine_id")


@cache
def agree_rules() -> Mapping[str, Any]:
    """agree.yaml."""
    read: Mapping[str, Any] = data.read(str(_PATH))
    return read


_REMOVE_RANK = "remove {flag}: it follows from the node's place"


@check(
    "rank-coverage",
    ERROR,
    "ranks of a server that no node has, or two nodes have",
    "vllm v0.13.0: vllm/v1/engine/utils.py",
    Message("no node has rank {rank}: {one.node.name} starts at {first}", _REMOVE_RANK),
    Message("{one.node.name} starts at rank {first}, which another node has", _REMOVE_RANK),
    Message("{one.node.name} has rank {last}, but there are only {total} ranks", _REMOVE_RANK),
)
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


_VALUES = "{flag} is {here} on {one.name}, but {there} on {other.name}"
_TRANSFERS = "{flag} differs between {one.name} and {other.name}"
_EQUAL = "give all nodes the same {flag}"


@check(
    "group-mismatch",
    ERROR,
    "nodes of one server that differ in what must be equal: clusters/checks/agree.yaml",
    "vllm v0.13.0: vllm/v1/engine/utils.py",
    Message(f"{_VALUES}: it must be the same on all nodes of a server", _EQUAL),
    Message(f"{_TRANSFERS}: it must be the same on all nodes of a server", _EQUAL),
    Message(
        "{one.node.name} serves {one.model}, but {other.node.name} serves {other.model}",
        "give all nodes the same model",
    ),
)
def mismatch(facts: Facts, values: Message, transfer: Message, model: Message) -> Found:
    rules = agree_rules()["group"]
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


@check(
    "leader-address",
    ERROR,
    "an address of the first node that belongs to another node",
    "vllm v0.13.0: vllm/engine/arg_utils.py",
    Message(
        "{flag} is {address}, but the first node, {node.name}, has {node.address}",
        "remove {flag}: it follows from the first node",
    ),
)
def leader(facts: Facts, message: Message) -> Found:
    """All nodes can agree on a wrong address."""
    for serving in facts.serving:
        first = serving.first.node
        for flag in ("--data-parallel-address", "--master-addr"):
            address = serving.first.value(flag)
            if address and first.address and address != first.address:
                path = facts.path_of(flag, serving.first.container)
                yield path, message(flag=flag, address=address, node=first)


@check(
    "uneven-spread",
    ERROR,
    "one rank over several nodes that cannot share its workers equally",
    "vllm v0.13.0: vllm/config/parallel.py, local_world_size",
    Message(
        "tp {at.tp} x pp {at.pp} makes {at.world} workers, which {at.nodes} nodes cannot share"
        " equally",
        "make tp times pp a multiple of {at.nodes}, or use dp",
    ),
)
def uneven_spread(facts: Facts, message: Message) -> Found:
    for serving in facts.serving:
        place = serving.first.place
        if place.layout == NODES and place.world % place.nodes:
            yield facts.path_of("TP_SIZE", serving.first.container), message(at=place)


@check(
    "role-beside-recipe",
    WARNING,
    "an instance whose role is not in the recipe",
    "docs/run.md",
    Message(
        "the recipe has no role {group.role}: all settings of {group.name} come from this file",
        "choose another recipe, or one of its roles: {roles}",
    ),
)
def role_not_in_recipe(facts: Facts, message: Message) -> Found:
    """Without the role in the recipe, only the cluster file describes the instance."""
    roles = recipe.groups(facts.cluster) if facts.serving else ()
    for group in (serving.group for serving in facts.serving):
        if roles and group.role not in roles:
            at = ("instances", group.instance)
            found = message(group=group, roles=", ".join(roles))
            yield facts.first_given((*at, "role"), at), found


@check(
    "group-uneven",
    WARNING,
    "nodes of one server that differ in another flag",
    "vllm v0.13.0: vllm/v1/engine/utils.py",
    Message(f"{_VALUES}: the nodes of a server rarely differ in it", f"{_EQUAL}, unless intended"),
    Message(
        f"{_TRANSFERS}: the nodes of a server rarely differ in it", f"{_EQUAL}, unless intended"
    ),
)
def uneven(facts: Facts, values: Message, transfer: Message) -> Found:
    rules = agree_rules()["group"]
    known = {
        f"--{flag}"
        for flags in (rules["own"], rules["compared"]["flags"], rules["unnoticed"]["flags"])
        for flag in flags
    }
    for name, server, typical in _differing(facts):
        if name not in known:
            path = facts.path_of(name, server.container, typical.container)
            yield path, _report(values, transfer, name, server, typical)


@check(
    "group-environment",
    WARNING,
    "nodes of one server with different HCCL_ or VLLM_ASCEND_ variables",
    "vllm-ascend#486, #9447, #12461",
    Message(
        "{name} is {here} on {one.name}, but {there} on {other.name}",
        "give all nodes of the server the same value",
    ),
)
def variables(facts: Facts, message: Message) -> Found:
    rule = agree_rules()["group"]["env"]
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


@check(
    "mixed-platforms",
    WARNING,
    "nodes of several platforms in one server",
    "vllm-ascend docs: tutorials are for nodes of one platform",
    Message(
        "server {group.name} mixes platforms: {one.name} is {one.platform}, {other.name} is"
        " {other.platform}",
        "give each instance nodes of one platform",
    ),
)
def platforms(facts: Facts, message: Message) -> Found:
    for group in facts.deployment.groups:
        first = group.containers[0].node
        for node in (container.node for container in group.containers):
            if node.platform != first.platform:
                at = ("nodes", node.name)
                found = message(group=group, one=node, other=first)
                yield facts.first_given((*at, "platform"), at), found
