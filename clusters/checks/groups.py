"""The nodes of one server: their ranks, and what they have to agree in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from clusters.checks.facts import (
    KV_TRANSFER,
    Check,
    Facts,
    Found,
    Server,
    Serving,
    effective_environment,
)
from clusters.compile import recipe
from clusters.deployment import Container
from common.errors import ERROR, WARNING
from entrypoints.inputs import data
from entrypoints.inputs.arguments import json_of
from entrypoints.launch.topology import DATA_PARALLEL, EXTERNAL, NODES

_PATH = FilePath(__file__).with_name("agree.yaml")
# A node's own part of the KV transfer.
_PER_NODE_KEYS = ("kv_port", "engine_id")


@cache
def agree_rules() -> Mapping[str, Any]:
    """agree.yaml."""
    read: Mapping[str, Any] = data.read(str(_PATH))
    return read


def ranks(facts: Facts) -> Iterator[Found]:
    """Every rank from 0 on has one container, whatever arguments have made of it."""
    for serving in facts.serving:
        flag, total, spans = _ranks(serving)
        expected = 0
        for first, count, server in spans:
            name = server.container.node.name
            if first > expected:
                message = f"no node has rank {expected}: {name} begins at {first}"
            elif first < expected:
                message = f"{name} begins at rank {first}, which another node has"
            elif first + count > total:
                message = f"{name} has rank {first + count - 1}, and there are {total}"
            else:
                expected += count
                continue
            fix = f"take {flag} out: it follows from the node's place"
            yield Found(facts.said(flag, server.container), message, fix)
            break


def _ranks(serving: Serving) -> tuple[str, int, list[tuple[int, int, Server]]]:
    """The flag that says a container's first rank, how many ranks there are, and who has which."""
    place = serving.first.place
    flags = {
        DATA_PARALLEL: "--data-parallel-start-rank",
        EXTERNAL: "--data-parallel-rank",
        NODES: "--node-rank",
    }
    flag = flags.get(place.layout, "")
    told = place.layout != NODES and place.dp_local * place.nodes != place.dp
    if not flag or told:  # the entrypoint says so
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
    """A container that nothing sets apart from the others of its group."""
    overrides = facts.cluster.instances[containers[0].instance].overrides
    return next((one for one in containers if one.node.name not in overrides), containers[0])


def _pairs(facts: Facts) -> Iterator[tuple[Server, Server]]:
    """Every server, with the plain one of its group."""
    for serving in facts.serving:
        plain = _typical([server.container for server in serving.servers], facts)
        model = next(server for server in serving.servers if server.container is plain)
        yield from ((server, model) for server in serving.servers if server is not model)


def _flag(server: Server, name: str) -> object:
    """A flag's value as far as it has to be equal."""
    if name == KV_TRANSFER and isinstance(raw := json_of(server.flags, name), dict):
        return {key: value for key, value in raw.items() if key not in _PER_NODE_KEYS}
    return server.flags.get(name)


def _differing(facts: Facts) -> Iterator[tuple[str, Server, Server]]:
    """Flags of a server that are not those of the plain one of its group."""
    for server, plain in _pairs(facts):
        for name in {**plain.flags, **server.flags}:
            if _flag(server, name) != _flag(plain, name):
                yield name, server, plain


def mismatch(facts: Facts) -> Iterator[Found]:
    lists = agree_rules()["group"]
    sources = {
        f"--{flag}": lists[kind]["source"]
        for kind in ("unnoticed", "compared")
        for flag in lists[kind]["flags"]
    }
    for name, server, plain in _differing(facts):
        if name in sources:
            yield Found(
                facts.said(name, server.container, plain.container),
                f"{_values(name, server, plain)}: the nodes of one server must have the same",
                f"give all nodes the same {name}",
                sources[name],
            )
    for server, plain in _pairs(facts):
        if server.model != plain.model:
            yield Found(
                facts.said("--model", server.container, plain.container),
                f"{server.container.node.name} serves {server.model},"
                f" {plain.container.node.name} {plain.model}",
                "give all nodes the same model",
            )


def uneven(facts: Facts) -> Iterator[Found]:
    lists = agree_rules()["group"]
    known = {
        f"--{flag}"
        for flags in (lists["own"], lists["compared"]["flags"], lists["unnoticed"]["flags"])
        for flag in flags
    }
    for name, server, plain in _differing(facts):
        if name not in known:
            yield Found(
                facts.said(name, server.container, plain.container),
                f"{_values(name, server, plain)}: the nodes of one server rarely differ in that",
                f"give all nodes the same {name}, unless it is meant",
            )


def _values(name: str, server: Server, plain: Server) -> str:
    here, there = server.container.node.name, plain.container.node.name
    if name == KV_TRANSFER:
        return f"{name} is another on {here} than on {there}"
    return f"{name} is {server.shown(name)} on {here}, and {plain.shown(name)} on {there}"


def variables(facts: Facts) -> Iterator[Found]:
    rule = agree_rules()["group"]["env"]
    prefixes, names, own = tuple(rule["prefixes"]), rule["names"], rule["own"]
    for serving in facts.serving:
        plain = _typical(serving.group.containers, facts)
        theirs = effective_environment(plain)
        for container in serving.group.containers:
            ours = effective_environment(container) if container is not plain else theirs
            for name in {**theirs, **ours} if ours != theirs else ():
                matters = (name.startswith(prefixes) or name in names) and name not in own
                here, there = ours.get(name, "not set"), theirs.get(name, "not set")
                if matters and here != there:
                    yield Found(
                        facts.said(name, container, plain),
                        f"{name} is {here} on {container.node.name}, and {there} on"
                        f" {plain.node.name}",
                        "give all nodes of the server the same",
                    )


def leader(facts: Facts) -> Iterator[Found]:
    """What all nodes agree in can still be wrong."""
    for serving in facts.serving:
        first = serving.first.container.node
        for flag in ("--data-parallel-address", "--master-addr"):
            address = serving.first.value(flag)
            if address and first.address and address != first.address:
                yield Found(
                    facts.said(flag, serving.first.container),
                    f"{flag} is {address}, and the first node, {first.name}, has {first.address}",
                    f"take {flag} out: it follows from the first node",
                )


def platforms(facts: Facts) -> Iterator[Found]:
    for group in facts.deployment.groups:
        first = group.containers[0].node
        for node in (container.node for container in group.containers):
            if node.platform != first.platform:
                yield Found(
                    facts.given(("nodes", node.name, "platform"), ("nodes", node.name)),
                    f"{node.name} is {node.platform} and {first.name} {first.platform}, in one"
                    f" server, {group.name}",
                    "put nodes of one platform into each instance",
                )


def spread(facts: Facts) -> Iterator[Found]:
    for serving in facts.serving:
        place = serving.first.place
        if place.layout == NODES and place.world % place.nodes:
            yield Found(
                facts.said("TP_SIZE", serving.first.container),
                f"tp {place.tp} x pp {place.pp} makes {place.world} workers, which {place.nodes}"
                " nodes cannot share equally",
                f"make tp times pp a multiple of {place.nodes}, or dp",
            )


def beside_recipe(facts: Facts) -> Iterator[Found]:
    """A role that the recipe does not have is made of what the cluster file says of it."""
    groups = recipe.groups(facts.cluster) if facts.serving else ()
    for group in (serving.group for serving in facts.serving):
        if groups and group.role not in groups:
            yield Found(
                facts.given(("instances", group.instance, "role"), ("instances", group.instance)),
                f"the recipe has no {group.role}, so that all of {group.name} follows from this"
                " file alone",
                f"choose another recipe, or one of its roles: {', '.join(groups)}",
            )


CHECKS = (
    Check(
        "rank-coverage",
        ERROR,
        "ranks of a server that no node has, or two",
        "vllm v0.13.0: vllm/v1/engine/utils.py",
        ranks,
    ),
    Check(
        "group-mismatch",
        ERROR,
        "nodes of one server that differ in what has to be equal: clusters/checks/agree.yaml",
        "vllm v0.13.0: vllm/v1/engine/utils.py",
        mismatch,
    ),
    Check(
        "leader-address",
        ERROR,
        "an address of the first node that is not its own",
        "vllm v0.13.0: vllm/engine/arg_utils.py",
        leader,
    ),
    Check(
        "uneven-spread",
        ERROR,
        "one rank over several nodes that cannot share its workers",
        "vllm v0.13.0: vllm/config/parallel.py, local_world_size",
        spread,
    ),
    Check(
        "role-beside-recipe",
        WARNING,
        "an instance whose role the recipe does not have",
        "docs/run.md",
        beside_recipe,
    ),
    Check(
        "group-uneven",
        WARNING,
        "nodes of one server that differ in another flag",
        "vllm v0.13.0: vllm/v1/engine/utils.py",
        uneven,
    ),
    Check(
        "group-environment",
        WARNING,
        "nodes of one server with different HCCL_ or VLLM_ASCEND_ variables",
        "vllm-ascend#486, #9447, #12461",
        variables,
    ),
    Check(
        "mixed-platforms",
        WARNING,
        "nodes of several platforms in one server",
        "vllm-ascend docs: tutorials are for nodes of one platform",
        platforms,
    ),
)
