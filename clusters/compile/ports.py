"""Assigns ports: when groups share a host, the ports of later groups move up."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from clusters.ranges import Span, overlap

# A port's name in a plan and in the cluster file -> the variable that sets it.
VARIABLES = {"api": "PORT", "dp_rpc": "DP_RPC_PORT", "kv": "KV_PORT", "ray": "RAY_PORT"}


class Listener(Protocol):
    """The host and the ports of a planned container."""

    @property
    def host(self) -> str: ...

    @property
    def ports(self) -> Mapping[str, Span]: ...


class PortAllocator:
    """The ports in use on every host, group by group."""

    def __init__(self) -> None:
        self._taken: dict[str, list[Span]] = {}

    def reassign(self, group: Sequence[Listener], fixed: Container[str]) -> dict[str, int]:
        """Name -> the first port that a group gets instead of its own; never for `fixed` names."""
        moves = {}
        own: dict[str, list[Span]] = {}
        for name in VARIABLES:
            places = [(one.host, one.ports[name]) for one in group if name in one.ports]
            step = 0 if name in fixed else self._step(places, own)
            for host, span in places:
                own.setdefault(host, []).append(_shifted(span, step))
            if step:
                moves[name] = places[0][1][0] + step
        return moves

    def add(self, group: Sequence[Listener]) -> None:
        """Mark the ports of a group as in use."""
        for one in group:
            self._taken.setdefault(one.host, []).extend(one.ports.values())

    def _step(self, places: Sequence[tuple[str, Span]], own: Mapping[str, Sequence[Span]]) -> int:
        """How far the places have to move until none overlaps a port in use on its host."""
        step = 0
        while beyond := [
            other[1] - span[0] - step + 1
            for host, span in places
            for other in (*self._taken.get(host, ()), *own.get(host, ()))
            if overlap(_shifted(span, step), other)
        ]:
            step += max(beyond)
        return step


def _shifted(span: Span, step: int) -> Span:
    return span[0] + step, span[1] + step
