"""Turn samples into rows: ours compared with upstream's, and whether the target is met."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from benchmarks.layers.cases import BASE, COLD, NOTHING, PIN, PLATFORM, Sample, Samples

TARGETS = {COLD: 0.60, PLATFORM: 0.02, PIN: 0.02, BASE: 0.01, NOTHING: 1.2}
STORED_TARGET = 0.50
TITLES = {
    COLD: "first build, cold",
    PLATFORM: "second platform",
    PIN: "one pin changed",
    BASE: "new base",
    NOTHING: "nothing changed (against bare buildx)",
}


@dataclass(frozen=True)
class Row:
    """One line of the table; `ours` and `other` in `unit`, the median of all samples."""

    title: str
    unit: str
    ours: float
    other: float
    least: tuple[float, float]
    samples: tuple[int, int]
    target: float | None

    @property
    def ratio(self) -> float:
        return self.ours / self.other if self.other else float("nan")

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "pass" if self.ratio <= self.target else "FAIL"


def rows(samples: Samples) -> list[Row]:
    """What was measured of both shapes."""
    times, result = samples.times, []
    for case, target in TARGETS.items():
        other = "bare" if case == NOTHING else "upstream"
        if times["ours"].get(case) and times[other].get(case):
            pair = times["ours"][case], times[other][case]
            result.append(_row(TITLES[case], "s", *pair, target))
    if {"ours", "upstream"} <= samples.stored.keys():
        ours, upstream = (samples.stored[shape] / 1e6 for shape in ("ours", "upstream"))
        title = "registry, both platforms, without base"
        result.append(Row(title, "MB", ours, upstream, (ours, upstream), (1, 1), STORED_TARGET))
    if times["ours"].get(PIN) and times["upstream"].get(PIN):
        ours, upstream = (times[shape][PIN][0].uploaded / 1e6 for shape in ("ours", "upstream"))
        title = "uploaded for the changed pin"
        result.append(Row(title, "MB", ours, upstream, (ours, upstream), (1, 1), None))
    return result


def _row(title: str, unit: str, ours: list[Sample], other: list[Sample], target: float) -> Row:
    first, second = ([sample.seconds for sample in samples] for samples in (ours, other))
    least = min(first), min(second)
    counts = len(first), len(second)
    return Row(title, unit, median(first), median(second), least, counts, target)


def table(found: list[Row]) -> str:
    """Medians, with the minimum of several in brackets."""
    lines = [f"{'':40}{'ours':>19}{'other':>19}{'ratio':>9}{'target':>9}"]
    for row in found:
        cells = [
            _cell(value, least, count, row.unit)
            for value, least, count in zip(
                (row.ours, row.other), row.least, row.samples, strict=True
            )
        ]
        target = "" if row.target is None else f"{row.target:g}"
        line = (
            f"{row.title:40}{cells[0]:>19}{cells[1]:>19}{row.ratio:>9.4f}{target:>9}  {row.verdict}"
        )
        lines.append(line.rstrip())
    return "\n".join(lines)


def _cell(value: float, least: float, count: int, unit: str) -> str:
    return f"{value:.2f} {unit}" + (f" ({least:.2f})" if count > 1 else "")


def row_data(row: Row) -> dict[str, object]:
    return {
        "title": row.title,
        "unit": row.unit,
        "ours": row.ours,
        "other": row.other,
        "least": row.least,
        "samples": row.samples,
        "ratio": row.ratio,
        "target": row.target,
        "verdict": row.verdict,
    }
