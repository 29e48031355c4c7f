"""Print the measured times as a table, and whether they meet the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

SECONDS = 2.0  # for a cluster of 1,000 nodes
NODES = 1000
GROWTH = 1.3  # time a node in the largest cluster against that in the smallest

# What a person does with a file; the other steps are measured beside it.
OURS = ("check", "plan", "docker")
YAML = ("yaml (libyaml)", "yaml (pure Python)")


@dataclass(frozen=True)
class Size:
    """The seconds of each run by step, for a cluster of `nodes` nodes."""

    nodes: int
    times: Mapping[str, Sequence[float]]

    def seconds(self, step: str) -> float:
        return median(self.times[step])

    @property
    def together(self) -> float:
        return sum(self.seconds(step) for step in OURS)


@dataclass(frozen=True)
class Verdict:
    title: str
    value: float
    target: float

    @property
    def passed(self) -> bool:
        return self.value <= self.target


def table(sizes: Sequence[Size]) -> str:
    """Median seconds by step and size, with minima in brackets; and ratios to reading the YAML."""
    heads = "".join(f"{size.nodes:>18,}" for size in sizes)
    lines = [f"{'nodes':24}{heads}"]
    for step in sizes[0].times:
        cells = (f"{size.seconds(step):.3f} ({min(size.times[step]):.3f})" for size in sizes)
        lines.append(f"{step:24}" + "".join(f"{cell:>18}" for cell in cells))
    lines.append(f"{' + '.join(OURS):24}" + "".join(f"{size.together:>18.3f}" for size in sizes))
    for step in YAML:
        cells = (f"{size.together / size.seconds(step):.1f}" for size in sizes)
        lines.append(f"{'  / ' + step:24}" + "".join(f"{cell:>18}" for cell in cells))
    lines.append(
        f"{'  ms a node':24}"
        + "".join(f"{1000 * size.together / size.nodes:>18.2f}" for size in sizes)
    )
    return "\n".join(lines)


def verdicts(sizes: Sequence[Size]) -> list[Verdict]:
    """The seconds for 1,000 nodes, if measured, and the growth from the smallest to the largest."""
    found = [
        Verdict(f"seconds for {size.nodes:,} nodes", size.together, SECONDS)
        for size in sizes
        if size.nodes == NODES
    ]
    first, last = sizes[0], sizes[-1]
    if first is not last:
        growth = (last.together / last.nodes) / (first.together / first.nodes)
        title = f"time a node, {last.nodes:,} against {first.nodes:,} nodes"
        found.append(Verdict(title, growth, GROWTH))
    return found


def verdict_text(one: Verdict) -> str:
    verdict = "pass" if one.passed else "FAIL"
    return f"{one.title:48}{one.value:>8.2f}  (target {one.target:g})  {verdict}"
