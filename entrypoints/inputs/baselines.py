"""Upstream's own figures for the recipes: what its nightly and weekly tests must reach.

A recipe has the figures of a configuration (env/baselines) if the file and line of the
configuration's command are a source of the recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from entrypoints.inputs import data
from entrypoints.inputs.recipes import Recipe
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

THROUGHPUT, ACCURACY = "throughput", "accuracy"
_SOURCE = re.compile(r"vllm-ascend (v\S+): (\S+):([\d,]+)")
_LOAD = {
    "num_prompts": "{} requests",
    "batch_size": "{} at once",
    "request_rate": "{} a second",
    "max_out_len": "at most {} tokens out",
}


class Figure(NamedTuple):
    """`baseline`: output tokens a second, or percent of correct answers.

    `threshold`: the share of a throughput that passes; the points by which an accuracy may differ.
    `schedule`: nightly or weekly. `load`: what the test sends.
    """

    release: str
    configuration: str
    schedule: str
    platforms: tuple[str, ...]
    metric: str
    baseline: float
    threshold: float
    dataset: str
    load: Mapping[str, float]
    source: str

    @property
    def target(self) -> str:
        """The figure as text."""
        if self.metric == ACCURACY:
            return f"accuracy {self.baseline:g} ± {self.threshold:g} % of {self.dataset}"
        return f"output {self.baseline:g} token/s of {self.dataset}"

    @property
    def sends(self) -> str:
        """The load of the test as text."""
        return ", ".join(
            text.format(self.load[key]) for key, text in _LOAD.items() if self.load.get(key)
        )


def of(recipe: Recipe) -> list[Figure]:
    """The figures of the configurations that a recipe of the library states, by release."""
    stated = {
        (match[1], match[2], int(line))
        for source in recipe.sources.values()
        for match in _SOURCE.finditer(source)
        for line in match[3].split(",")
    }
    releases = sorted({release for release, _, _ in stated})
    return [
        figure
        for release in releases
        for raw in _configurations(release)
        if any((release, raw["file"], line) in stated for line in raw["commands"])
        for figure in _figures(release, raw)
    ]


def _configurations(release: str) -> list[dict[str, Any]]:
    path = data.path_of("baselines", f"{release}.yaml")
    return data.read(path) if data.is_file(path) else []


def _figures(release: str, raw: Mapping[str, Any]) -> Iterator[Figure]:
    for one in raw["figures"]:
        yield Figure(
            release=release,
            configuration=raw["configuration"],
            schedule="weekly" if "/weekly/" in raw["file"] else "nightly",
            platforms=tuple(raw["platforms"]),
            metric=one["metric"],
            baseline=one["baseline"],
            threshold=one["threshold"],
            dataset=one["dataset"],
            load={key: one[key] for key in _LOAD if key in one},
            source=f"vllm-ascend {release}: {raw['file']}:{one['line']}",
        )
