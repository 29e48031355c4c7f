"""What to measure: kinds of requests, ways to the servers, and samples of one kind by one way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

NONE, ROUTER, EXAMPLE = "none", "vllm-router", "example"
DISTURBED = 0.15  # share of the CPU time that other programs use, from which a sample is repeated
TRIES = 3
LEAST_SIZE = 32  # bytes of a prompt, which begins with a unique word
EVENTS = 16  # of a stream; backend.py and load.lua say the same


@dataclass(frozen=True)
class Case:
    """Requests of one kind. `size`: of the prompt, in bytes; each of `connections` sends one at a
    time."""

    stream: bool
    size: int
    connections: int

    @property
    def title(self) -> str:
        size = f"{self.size // 1024} KiB" if self.size >= 1024 else f"{self.size} B"
        return f"{'stream' if self.stream else 'whole'}, {size}, {self.connections}"


@dataclass(frozen=True)
class Way:
    """A way to the servers: none, or ROLE=proxy with PROXY=`proxy` and more arguments."""

    name: str
    proxy: str = ""
    arguments: Sequence[str] = ()


WAYS = (Way(NONE), Way(ROUTER, ROUTER), Way(EXAMPLE, EXAMPLE))


@dataclass(frozen=True)
class Load:
    """What wrk saw: completed requests, and their time in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: Mapping[str, int]


@dataclass(frozen=True)
class Sample:
    """One measurement of a case by one way. CPU seconds cover everything in the container.

    `served`: requests that had both hops, also those that the client did not wait for. `first`:
    seconds to the first event of the probe's streams. `others`: the share of the CPU time that
    other programs used.
    """

    way: str
    case: Case
    load: Load
    cpu: float
    servers_cpu: float
    client_cpu: float
    served: int
    others: float
    wrong: Mapping[str, int]
    elsewhere: Mapping[str, int]
    first: Sequence[float] = field(default=())

    @property
    def rate(self) -> float:
        return self.load.requests / self.load.seconds

    @property
    def errors(self) -> dict[str, int]:
        """What went wrong, and how often."""
        found = {**self.load.errors, **self.wrong, "nothing came back": not self.load.requests}
        return {name: int(n) for name, n in found.items() if n}


class Patience:
    """Repeats measurements that other programs disturbed, for up to `seconds` in total."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def calmest(self, measure: Callable[[], Sample]) -> Sample:
        """The first undisturbed measurement, or the least disturbed of TRIES."""
        best = measure()
        for _ in range(TRIES - 1):
            if best.others <= DISTURBED or self._left <= 0:
                break
            begun = time.monotonic()
            best = min(best, measure(), key=lambda one: one.others)
            self._left -= time.monotonic() - begun
        return best


def cases(streams: Sequence[bool], sizes: Sequence[int], connections: Sequence[int]) -> list[Case]:
    return [Case(*one) for one in product(streams, sizes, connections)]


def turn(ways: Sequence[Way], number: int) -> list[Way]:
    """The ways, beginning with a different one for each `number`."""
    number %= len(ways)
    return [*ways[number:], *ways[:number]]


def wrong_of(counts: Mapping[str, Any], connections: int) -> dict[str, int]:
    """The errors that the servers counted. A client that stops leaves one request per
    connection."""
    left = int(counts["kept"])
    return {
        "refused by a server": sum(counts["refused"].values()),
        "prompt prefilled again": counts["again"]["prompt"],
        "request id used again": counts["again"]["id"],
        "another id for the decode": counts["again"]["other id"],
        "prefill without decode": max(0, left - connections),
    }
