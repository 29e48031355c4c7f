"""Print medians, ratios and tables of the samples, and whether they meet the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.proxy.cases import EXAMPLE, NONE, ROUTER, Case, Sample, Way

TARGET = 5.0  # times the requests a second of the example proxy
# Fewer connections leave a proxy waiting: the ratio is one of latencies then, and has no target.
BUSY = 16


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds. Times in seconds; `cpu` of the proxy for a request.

    `first`: to the first event of the probe's streams, None without one. `proxy` and `rest`: the
    share of its processors that the proxy used, and of theirs that the client and servers used.
    `elsewhere`: additional requests of the proxy to the servers, for each completion.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    first: float | None
    proxy: float
    rest: float
    elsewhere: float


Table = dict[Case, dict[str, Figures]]


def figures(samples: Iterable[Sample], proxies: int, rests: int) -> Table:
    """`proxies`, `rests`: the number of processors of the proxy, and of the others."""
    kept: dict[Case, dict[str, list[Sample]]] = {}
    for one in samples:
        kept.setdefault(one.case, {}).setdefault(one.way, []).append(one)
    return {
        case: {way: _figures(found, proxies, rests) for way, found in ways.items()}
        for case, ways in kept.items()
    }


def _figures(found: Sequence[Sample], proxies: int, rests: int) -> Figures:
    first = [one for sample in found for one in sample.first]

    def middle(value: Callable[[Sample], float]) -> float:
        return median(map(value, found))

    return Figures(
        rate=middle(lambda one: one.rate),
        p50=middle(lambda one: one.load.p50),
        p99=middle(lambda one: one.load.p99),
        cpu=middle(lambda one: one.cpu / max(1, one.served)),
        first=median(first) if first else None,
        proxy=middle(lambda one: one.cpu / one.load.seconds / proxies),
        rest=middle(lambda one: (one.servers_cpu + one.client_cpu) / one.load.seconds / rests),
        elsewhere=middle(lambda one: sum(one.elsewhere.values()) / max(1, one.served)),
    )


def ratio(ways: dict[str, Figures], way: str = ROUTER, peer: str = EXAMPLE) -> float:
    """Requests per second relative to the peer's; 0 if the peer answered none."""
    return ways[way].rate / ways[peer].rate if ways[peer].rate else 0.0


def verdict(case: Case, ways: dict[str, Figures]) -> str:
    if case.connections < BUSY:
        return ""
    return "pass" if ratio(ways) >= TARGET else "FAIL"


def passed(table: Table) -> bool:
    """Whether every case with a target meets it."""
    return all(verdict(case, ways) != "FAIL" for case, ways in table.items())


def errors(samples: Iterable[Sample]) -> list[str]:
    return [f"{one.way}: {one.case.title}: {one.errors}" for one in samples if one.errors]


def text(table: Table, ways: Sequence[Way]) -> str:
    """The tables of the README: throughput with the proxy's cost, and latency."""
    names = [way.name for way in ways]
    proxies = [name for name in names if name != NONE]
    throughput = _markdown(
        ["requests/s", *names, *(f"{name} / {EXAMPLE}" for name in proxies if name != EXAMPLE), ""],
        [
            [
                case.title,
                *(f"{found[name].rate:.0f}" for name in names),
                *(f"{ratio(found, name):.1f}" for name in proxies if name != EXAMPLE),
                verdict(case, found),
            ]
            for case, found in table.items()
        ],
    )
    cost = _markdown(
        [
            "ms of a processor for a request",
            *proxies,
            f"{EXAMPLE} / {ROUTER}",
            *(f"{name}: busy / rest" for name in names),
        ],
        [
            [
                case.title,
                *(f"{found[name].cpu * 1e3:.2f}" for name in proxies),
                f"{found[EXAMPLE].cpu / max(found[ROUTER].cpu, 1e-9):.1f}",
                *(f"{found[name].proxy:.0%} / {found[name].rest:.0%}" for name in names),
            ]
            for case, found in table.items()
        ],
    )
    latency = _markdown(
        [
            "ms: p50 / p99",
            *names,
            *(f"{name} adds" for name in proxies),
            *(f"first event, {name}" for name in names),
        ],
        [
            [
                case.title,
                *(f"{found[name].p50 * 1e3:.2f} / {found[name].p99 * 1e3:.2f}" for name in names),
                *(f"{(found[name].p50 - found[NONE].p50) * 1e3:.2f}" for name in proxies),
                *(_ms(found[name].first) for name in names),
            ]
            for case, found in table.items()
        ],
    )
    return "\n\n".join((throughput, cost, latency))


def elsewhere(table: Table) -> dict[str, float]:
    """Additional requests to the servers for each completion, by way."""
    ways = {name for found in table.values() for name in found}
    return {name: median(found[name].elsewhere for found in table.values()) for name in ways}


def data(table: Table) -> list[dict[str, Any]]:
    """The medians as JSON data."""
    return [
        {
            **asdict(case),
            "ways": {name: asdict(one) for name, one in found.items()},
            "ratio": ratio(found),
            "target": TARGET,
            "verdict": verdict(case, found),
        }
        for case, found in table.items()
    ]


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.1f}"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("  |", " |") for line in lines)
