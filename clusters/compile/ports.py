"""Ports that follow by themselves: where groups share a host, the later ones move up."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from clusters.ranges import Span, overlap

# A port's name in a plan and in the cluster file -> the variable that sets it.
VARIABLES = {"api": "PORT", "dp_rpc": "DP_RPC_PORT", "kv": "KV_PORT", "ray": "RAY_PORT"}


class Listener(Protocol):
    """A planned container, as far as its ports go."""

    @property
    def host(self) -> str: ...

    @property
    def ports(self) -> Mapping[str, Span]: ...


class PortAllocator:
    """The ports of every host, as one group after the other takes them."""

    def __init__(self) -> None:
        self._taken: dict[str, list[Span]] = {}

    def moves(self, group: Sequence[Listener], fixed: Container[str]) -> dict[str, int]:
        """The first ports that a group takes in place of its own, by name; never a `fixed` one."""
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
        """The group has its ports."""
        for one in group:
            self._taken.setdefault(one.host, []).extend(one.ports.values())

    def _step(self, places: Sequence[tuple[str, Span]], own: Mapping[str, Sequence[Span]]) -> int:
        """How far the places have to move until none meets what is taken on its host."""
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
