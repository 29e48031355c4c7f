"""The cases of each shape: what to build, in which order, and what to record."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from benchmarks.layers.docker import forget
from benchmarks.layers.machine import wait_until_calm
from benchmarks.layers.ours import Ours
from benchmarks.layers.registry import Registry
from benchmarks.layers.upstream import Upstream

COLD, PLATFORM, PIN, BASE, NOTHING = "cold", "platform", "pin", "base", "nothing"
CASES = (COLD, PLATFORM, NOTHING, PIN, BASE)
CALM = 0.2  # of the processors in use by others, for a build to start
FIRST, SECOND, NEW = "a3", "a2", "new"  # the bases; FIRST and SECOND are platforms too

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """One build: its wall seconds, the bytes it added to the registry, the CPU usage just before
    it, and the load average after it."""

    seconds: float
    uploaded: int
    busy: float
    load: float


@dataclass
class Samples:
    """Shape → case → samples, and shape → bytes in the registry for both platforms."""

    times: dict[str, dict[str, list[Sample]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    stored: dict[str, int] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        times = {
            shape: {case: [asdict(sample) for sample in samples] for case, samples in cases.items()}
            for shape, cases in self.times.items()
        }
        return {"samples": times, "stored_bytes": self.stored}


class Meter:
    """Runs builds one after another, and records each."""

    def __init__(self, registry: Registry, samples: Samples, patience: float, say: Say) -> None:
        self.registry, self.samples, self.patience, self.say = registry, samples, patience, say

    def note(self, shape: str, case: str, build: Callable[[], float]) -> None:
        busy = wait_until_calm(CALM, self.patience)
        before = self.registry.blobs()
        seconds = build()
        after, load = self.registry.blobs(), os.getloadavg()[0]
        uploaded = sum(size for digest, size in after.items() if digest not in before)
        self.samples.times[shape][case].append(Sample(seconds, uploaded, busy, load))
        self.say(
            f"{shape:9} {case:9} {seconds:8.2f} s {uploaded / 1e6:8.1f} MB  "
            f"busy before {busy:.0%}, load after {load:.1f}"
        )

    def stored(self, shape: str, base_blobs: dict[str, int]) -> None:
        blobs = self.registry.blobs()
        self.samples.stored[shape] = sum(
            s for digest, s in blobs.items() if digest not in base_blobs
        )


def run_ours(
    ours: Ours, meter: Meter, bases: dict[str, str], cases: list[str], repeat: int, run: int
) -> None:
    """Measure our shape once, from an empty state. Each case leaves the others' inputs
    unchanged."""
    registry = meter.registry
    registry.reset()
    base_blobs = registry.blobs()
    ours.fresh()
    forget(f"{registry.address}/vllm-ascend")
    meter.note("ours", COLD, partial(ours.build, FIRST, bases[FIRST], f"cold-{run}"))
    if PLATFORM in cases:
        meter.note("ours", PLATFORM, partial(ours.build, SECOND, bases[SECOND], f"platform-{run}"))
        meter.stored("ours", base_blobs)
    if NOTHING in cases:
        ours.build(FIRST, bases[FIRST], f"nothing-{run}-before")
        for turn in range(repeat):  # alternating, so that a disturbance affects both
            name = f"nothing-{run}-{turn}"
            meter.note("ours", NOTHING, partial(ours.build, FIRST, bases[FIRST], name))
            meter.note("bare", NOTHING, partial(ours.bare, name))
    if BASE in cases:
        meter.note("ours", BASE, partial(ours.build, FIRST, bases[NEW], f"base-{run}"))
    if PIN in cases:
        ours.bump()
        meter.note("ours", PIN, partial(ours.build, FIRST, bases[FIRST], f"pin-{run}"))


def run_upstream(
    upstream: Upstream,
    meter: Meter,
    bases: dict[str, str],
    soc_versions: dict[str, str],
    cases: list[str],
    run: int,
) -> None:
    """Measure upstream's shape once, from an empty state. Cases could share only the COPY of the
    source, so the builder is emptied between them to save disk space."""
    registry = meter.registry
    registry.reset()
    base_blobs = registry.blobs()
    upstream.fresh()
    soc = soc_versions[FIRST]

    def note(case: str, soc_version: str, base: str, tag: str) -> None:
        forget(f"{registry.address}/upstream")
        meter.note(
            "upstream", case, partial(upstream.build, soc_version, base, tag, f"{case}-{run}")
        )

    note(COLD, soc, bases[FIRST], FIRST)
    if PLATFORM in cases:
        note(PLATFORM, soc_versions[SECOND], bases[SECOND], SECOND)
        meter.stored("upstream", base_blobs)
    if BASE in cases:
        note(BASE, soc, bases[NEW], "new-base")
    if PIN in cases:
        upstream.bump()
        note(PIN, soc, bases[FIRST], "bump")
    forget(f"{registry.address}/upstream")
