"""Ports of containers that share a host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from clusters.checks.definitions import check
from clusters.checks.facts import Facts, Found, Server, listens
from clusters.deployment import Container
from clusters.ranges import Span, overlap, span_text
from entrypoints.findings import Message
from entrypoints.inputs.recipes import SIDES
from entrypoints.inputs.stack import ReservedPorts
from entrypoints.launch.facts import number
from entrypoints.launch.topology import RAY
from entrypoints.rules.ports import SET_BY

_SET_BY: Mapping[str, str] = {**SET_BY, "metrics": "--prometheus-port"}
_Listener = tuple[Span, str, Container]
_ROCE = "HCCL_INTRA_ROCE_ENABLE"
_ADXL_BASE = "ASCEND_BASE_PORT"
_HCCL_BASE = "HCCL_IF_BASE_PORT"


@check("port-taken")
def taken(facts: Facts, message: Message) -> Found:
    """Ports from the file are not moved apart."""
    for host, containers in facts.hosts.items():
        listeners = [
            (span, name, container)
            for container in containers
            for name, span in listens(container).items()
        ]
        listeners.sort(key=lambda one: one[0])
        for one, before in zip(listeners[1:], accumulate(listeners, _later_end), strict=False):
            (span, name, container), (last, other, holder) = one, before
            if overlap(span, last) and holder is not container:
                path = facts.path_of_any((_SET_BY[name], container), (_SET_BY[other], holder))
                ports = ", ".join(dict.fromkeys((name, other)))
                found = message(one=container, other=holder, host=host, port=span[0], ports=ports)
                yield path, found


def _later_end(one: _Listener, other: _Listener) -> _Listener:
    return max(one, other, key=lambda each: each[0][1])


@check("port-in-range")
def in_range(facts: Facts, message: Message) -> Found:
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
                    continue  # the entrypoint reports it
                for name, port in listens(container).items():
                    if overlap(port, span):
                        found = message(
                            name=name,
                            port=port[0],
                            one=container,
                            range=span_text(span),
                            what=what,
                            other=holder,
                            host=host,
                            source=source,
                        )
                        yield facts.path_of(_SET_BY[name], container), found


def _ranges(facts: Facts, server: Server) -> Iterator[tuple[str, Span, str]]:
    """(name, range, source) of everything that takes ports on a server's host by default."""
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


def _shared_hosts(facts: Facts) -> Iterator[tuple[str, list[Server]]]:
    """The first server of each group on a host that several groups share."""
    hosts: dict[str, list[Server]] = {}
    for serving in facts.serving:
        firsts = {server.container.node.name: server for server in serving.servers[::-1]}
        for host, server in firsts.items():
            if host in facts.hosts:
                hosts.setdefault(host, []).append(server)
    yield from ((host, servers) for host, servers in hosts.items() if len(servers) > 1)


@check("adxl-ports-shared")
def adxl_shared(facts: Facts, message: Message) -> Found:
    """Each container counts its devices from 0, so that all start at the same port."""
    ports = facts.release.adxl_ports

    def span(server: Server) -> Span | None:
        adxl = server.container.ports.get("adxl")
        count = len(server.container.devices) or server.place.devices
        return (adxl[0], adxl[0] + ports.step * count - 1) if adxl else None

    return _shared(facts, message, "Mooncake's transport", _ADXL_BASE, span, ports.source)


@check("hccl-ports-shared")
def hccl_shared(facts: Facts, message: Message) -> Found:
    ports = next(one for one in facts.release.reserved_ports if one.moved_by == _HCCL_BASE)

    def span(server: Server) -> Span | None:
        return _moved(ports, server) if _in_use(ports, server) else None

    return _shared(facts, message, "HCCL", _HCCL_BASE, span, ports.source)


def _shared(
    facts: Facts,
    message: Message,
    what: str,
    variable: str,
    span_of: Callable[[Server], Span | None],
    source: str,
) -> Found:
    for host, servers in _shared_hosts(facts):
        spans: list[tuple[Span, Server]] = []
        for server in servers:
            span = span_of(server)
            if span is None:
                continue
            other = next((one for there, one in spans if overlap(span, there)), None)
            if other:
                found = message(
                    what=what,
                    one=server.container,
                    range=span_text(span),
                    host=host,
                    other=other.container,
                    variable=variable,
                    free=max(last for (_, last), _ in spans) + 1,
                    source=source,
                )
                yield facts.path_of(variable, server.container), found
            spans.append((span, server))


@check("same-host-transfer")
def same_host(facts: Facts, message: Message) -> Found:
    """A transfer within a host uses another path than one between hosts."""
    for host, servers in _shared_hosts(facts):
        mooncake = [server for server in servers if server.mooncake]
        if not set(SIDES) <= {server.place.group.name for server in mooncake}:
            continue
        for server in mooncake:
            if server.env.get(_ROCE) != "1":
                path = facts.path_of(_ROCE, server.container)
                yield path, message(host=host, server=server.container.name)
