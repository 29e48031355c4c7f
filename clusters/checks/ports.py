"""Ports of containers that share a host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from clusters.checks.facts import Check, Facts, Found, Server, listens
from clusters.deployment import Container
from clusters.ranges import Span, overlap
from common.errors import ERROR, WARNING
from entrypoints.inputs.recipes import SIDES
from entrypoints.inputs.stack import ReservedPorts
from entrypoints.launch.topology import RAY
from entrypoints.rules.facts import number
from entrypoints.rules.ports import SET_BY

_SET_BY: Mapping[str, str] = {**SET_BY, "metrics": "--prometheus-port"}
_Listener = tuple[Span, str, Container]
_ROCE = "HCCL_INTRA_ROCE_ENABLE"
_ADXL_BASE = "ASCEND_BASE_PORT"
_HCCL_BASE = "HCCL_IF_BASE_PORT"


def taken(facts: Facts) -> Iterator[Found]:
    """Ports that are given and so were not moved apart."""
    for host, containers in facts.hosts.items():
        ends = [
            (span, name, container)
            for container in containers
            for name, span in listens(container).items()
        ]
        ends.sort(key=lambda one: one[0])
        for one, before in zip(ends[1:], accumulate(ends, _later), strict=False):
            (span, name, container), (last, other, holder) = one, before
            if overlap(span, last) and holder is not container:
                yield Found(
                    facts.said_as((_SET_BY[name], container), (_SET_BY[other], holder)),
                    f"{container.name} and {holder.name} both listen on {host}:{span[0]}"
                    f" ({', '.join(dict.fromkeys((name, other)))})",
                    "give one of them another port",
                )


def _later(one: _Listener, other: _Listener) -> _Listener:
    return max(one, other, key=lambda each: each[0][1])


def in_range(facts: Facts) -> Iterator[Found]:
    """A port of one container where another one's transport listens."""
    servers = {id(one.container): one for serving in facts.serving for one in serving.servers}
    for host, containers in facts.hosts.items():
        if len(containers) < 2:
            continue
        ranges = {
            id(one): dict.fromkeys(_ranges(facts, servers[id(one)]), one)
            for one in containers
            if id(one) in servers
        }
        every = {what: holder for own in ranges.values() for what, holder in own.items()}
        for container in containers:
            for (what, span, source), holder in every.items():
                if (what, span, source) in ranges.get(id(container), ()):
                    continue  # the entrypoint says so
                for name, port in listens(container).items():
                    if overlap(port, span):
                        yield Found(
                            facts.said(_SET_BY[name], container),
                            f"the {name} port {port[0]} of {container.name} lies in"
                            f" {span[0]}-{span[1]}, of which {what} of {holder.name} takes some"
                            f" on {host}",
                            "give it a port outside of that",
                            source,
                        )


def _ranges(facts: Facts, server: Server) -> Iterator[tuple[str, Span, str]]:
    """What listens on a server's host unasked, where, and who says so."""
    if adxl := server.container.ports.get("adxl"):
        yield "Mooncake's transport", adxl, facts.release.adxl_ports.source
    for ports in facts.release.reserved_ports:
        if _in_use(ports, server):
            yield ports.name, _moved(ports, server), ports.source


def _moved(ports: ReservedPorts, server: Server) -> Span:
    first = number(server.env.get(ports.moved_by, "")) or ports.first
    return first, first + ports.last - ports.first


def _in_use(ports: ReservedPorts, server: Server) -> bool:
    transfer = server.transfer
    connectors = (transfer.connector, *transfer.connectors) if transfer else ()
    return (
        ports.unless not in server.env
        and {
            "always": True,
            "mooncake": any(name.startswith("Mooncake") for name in connectors),
            "store": any("Store" in name for name in connectors),
            "ray": server.place.layout == RAY,
        }[ports.when]
    )


def _neighbours(facts: Facts) -> Iterator[tuple[str, list[Server]]]:
    """The first server of each group on a host that several groups share."""
    hosts: dict[str, list[Server]] = {}
    for serving in facts.serving:
        firsts = {server.container.node.name: server for server in serving.servers[::-1]}
        for host, server in firsts.items():
            if host in facts.hosts:
                hosts.setdefault(host, []).append(server)
    yield from ((host, servers) for host, servers in hosts.items() if len(servers) > 1)


def adxl_shared(facts: Facts) -> Iterator[Found]:
    """Each container counts its devices from 0, so they begin at the same port."""
    ports = facts.release.adxl_ports

    def span(server: Server) -> Span | None:
        adxl = server.container.ports.get("adxl")
        count = len(server.container.devices) or server.place.devices
        return (adxl[0], adxl[0] + ports.step * count - 1) if adxl else None

    yield from _shared(facts, "Mooncake's transport", _ADXL_BASE, span, ports.source)


def hccl_shared(facts: Facts) -> Iterator[Found]:
    ports = next(one for one in facts.release.reserved_ports if one.moved_by == _HCCL_BASE)

    def span(server: Server) -> Span | None:
        return _moved(ports, server) if _in_use(ports, server) else None

    yield from _shared(facts, "HCCL", _HCCL_BASE, span, ports.source)


def _shared(
    facts: Facts, what: str, variable: str, of: Callable[[Server], Span | None], source: str
) -> Iterator[Found]:
    for host, servers in _neighbours(facts):
        spans: list[tuple[Span, Server]] = []
        for server in servers:
            span = of(server)
            if span is None:
                continue
            other = next((one for there, one in spans if overlap(span, there)), None)
            if other:
                free = max(last for (_, last), _ in spans) + 1
                yield Found(
                    facts.said(variable, server.container),
                    f"{what} of {server.container.name} listens in {span[0]}-{span[1]} of {host},"
                    f" where that of {other.container.name} does: the start can fail",
                    f"set {variable} to {free} under its env:",
                    source,
                )
            spans.append((span, server))


def same_host(facts: Facts) -> Iterator[Found]:
    """Both sides of a transfer on one host, which takes another way than between hosts."""
    for host, servers in _neighbours(facts):
        mooncake = [server for server in servers if server.mooncake]
        if not set(SIDES) <= {server.place.group.name for server in mooncake}:
            continue
        for server in mooncake:
            if server.env.get(_ROCE) != "1":
                yield Found(
                    facts.said(_ROCE, server.container),
                    f"prefill and decode share {host}, and {server.container.name} has no"
                    f" {_ROCE}=1: the KV transfer can fail",
                    f"set {_ROCE} to 1 under env:",
                )


CHECKS = (
    Check(
        "port-taken",
        ERROR,
        "a port that two containers of one host are given",
        "Linux: one listener for a port",
        taken,
    ),
    Check(
        "port-in-range",
        WARNING,
        "a port where the transport of another container on the host listens",
        "vllm-ascend PR #6455, #8938, #14263; env/stack.yaml",
        in_range,
    ),
    Check(
        "adxl-ports-shared",
        WARNING,
        "two servers with Mooncake on one host, with the same ports for it",
        "vllm-ascend PR #6455, #8938, #14263",
        adxl_shared,
    ),
    Check(
        "hccl-ports-shared",
        WARNING,
        "two servers on one host with the same ports for HCCL",
        "vllm-ascend#4725, #405",
        hccl_shared,
    ),
    Check(
        "same-host-transfer",
        WARNING,
        f"prefill and decode on one host without {_ROCE}=1",
        "vllm-ascend#4866, #5635, #3724",
        same_host,
    ),
)
