"""Size budgets: limits on the compressed size of an image and its layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError, did_you_mean
from common.yaml import Reader, document, kind
from images.build.compressed_size import CompressedSize
from images.build.render import DEBIAN
from images.matrix import CPU, STAND_IN, Matrix, Variant

PATH = Path(__file__).parent / "budgets.yaml"
BASES = ("image", "packages", STAND_IN)
CPU_BASES = ("image", DEBIAN)
COMPRESSIONS = ("zstd", "gzip")
MB = 1_000_000
ROUNDING = 0.05  # MB: baselines are written with one decimal


@dataclass(frozen=True)
class Key:
    """What a budget is for: one variant on one architecture, on one kind of base.

    `release` is the lock of platform cpu, such as cpu-0.13.0: its vLLM is what the size depends on.
    """

    release: str
    platform: str
    os: str
    arch: str
    base: str
    compression: str

    @classmethod
    def of(cls, variant: Variant, base: str, size: CompressedSize) -> Key:
        """Of an image as it is built; `base` is the kind."""
        release = variant.cpu_vllm.lock if variant.cpu_vllm else variant.release.name
        names = (release, variant.platform.name, variant.os.name)
        return cls(*names, size.arch, base, size.compression)

    def __str__(self) -> str:
        where = f"{self.release} {self.platform} {self.os} {self.arch}"
        return f"{where} on {self.base}, {self.compression}"


@dataclass(frozen=True)
class Budget:
    """Compressed MB. `image` and `layers` are limits, `baseline` what was measured."""

    key: Key
    baseline: Mapping[str, float]
    image: float | None = None
    layers: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What `check` found: the layers beside their baseline, and what is over budget."""

    reference: str
    key: Key
    size: float
    limit: float | None
    known: bool
    layers: tuple[tuple[str, float, float | None], ...]  # name, MB, MB of the baseline
    problems: tuple[Finding, ...]


Budgets = Mapping[Key, Budget]


def load(matrix: Matrix, path: Path = PATH) -> Budgets:
    """Read and check the budgets. Raises UserError (65) with every problem found."""
    reader = _BudgetReader(path.name, matrix)
    budgets = reader.budgets(document(path))
    if reader.problems:
        raise UserError(reader.problems, EX_DATAERR)
    return budgets


def check(budgets: Budgets, reference: str, key: Key, layers: Mapping[str, int]) -> Verdict:
    """Hold an image's layers (name → compressed bytes, bottom up) to its budget."""
    sizes = {name: size / MB for name, size in layers.items()}
    total = sum(sizes.values())
    budget = budgets.get(key)
    baseline = budget.baseline if budget else {}
    beside = tuple((name, size, baseline.get(name)) for name, size in sizes.items())
    problems = tuple(_problems(budget, reference, total, sizes)) if budget else ()
    limit = budget.image if budget else None
    return Verdict(reference, key, total, limit, budget is not None, beside, problems)


def enforce(verdicts: Iterable[Verdict]) -> None:
    """Raises UserError (65) when an image is over its budget, with the layers that grew."""
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    if problems:
        raise UserError(problems, EX_DATAERR)


def _problems(
    budget: Budget, reference: str, total: float, sizes: Mapping[str, float]
) -> Iterable[Finding]:
    fix = "make it smaller, or raise the budget in images/build/budgets.yaml and say why"
    for name, limit in budget.layers.items():
        size = sizes.get(name, 0.0)
        if size > limit:
            over = f"is {size:,.1f} MB compressed, {size - limit:,.1f} MB over its {limit:,.1f} MB"
            before = f"; it was {budget.baseline[name]:,.1f} MB"
            yield Finding(f"{reference}: layer {name}", over + before, fix)
    if budget.image is not None and total > budget.image:
        over = (
            f"is {total:,.1f} MB compressed, {total - budget.image:,.1f} MB over its budget of "
            f"{budget.image:,.1f} MB"
        )
        grown = _grown(budget.baseline, sizes)
        yield Finding(reference, f"{over}; {grown or 'no layer grew'}", fix)


def _grown(baseline: Mapping[str, float], sizes: Mapping[str, float]) -> str:
    """The layers that grew, the one that grew most first."""
    growth = {name: size - baseline.get(name, 0.0) for name, size in sizes.items()}
    grown = sorted((name for name in sizes if growth[name] > ROUNDING), key=lambda n: -growth[n])
    return ", ".join(
        f"{name} grew from {baseline[name]:,.1f} MB to {sizes[name]:,.1f} MB"
        if name in baseline
        else f"{name} is new, {sizes[name]:,.1f} MB"
        for name in grown
    )


class _BudgetReader(Reader):
    """Reads budgets.yaml as the matrix is read: every problem noted, names as the matrix has."""

    def __init__(self, file: str, matrix: Matrix) -> None:
        super().__init__(file)
        self.pins = matrix

    def budgets(self, value: Any) -> Budgets:
        top = self.mapping("(top)", value)
        for name in top:
            if name != "budgets":
                self.note(name, "unknown key", "known: budgets")
        entries = top.get("budgets")
        if not isinstance(entries, list):
            self.note("budgets", f"must be a list, is {kind(entries)}")
            return {}
        result: dict[Key, Budget] = {}
        for index, item in enumerate(entries):
            budget = self.budget(f"budgets[{index}]", item)
            if budget is None:
                continue
            if budget.key in result:
                self.note(f"budgets[{index}]", f"a second budget for {budget.key}")
            result[budget.key] = budget
        return result

    def budget(self, at: str, value: Any) -> Budget | None:
        names = [field.name for field in dataclasses.fields(Key)]
        raw = self.mapping(at, value)
        if not raw:
            return None
        known = [*names, "baseline", "image", "layers"]
        for name in raw:
            if name not in known:
                self.note(f"{at}.{name}", "unknown key", did_you_mean(name, known))
        before = len(self.problems)
        key = self.key(at, {name: raw[name] for name in names if name in raw})
        baseline = self.megabytes(f"{at}.baseline", raw.get("baseline"))
        layers = self.megabytes(f"{at}.layers", raw.get("layers", {}))
        image = raw.get("image")
        if image is not None and not self.size(f"{at}.image", image):
            image = None
        for name, limit in layers.items():
            if name not in baseline:
                self.note(f"{at}.layers.{name}", "has no baseline", did_you_mean(name, baseline))
            elif limit < baseline[name]:
                self.note(f"{at}.layers.{name}", f"is below its baseline of {baseline[name]} MB")
        if image is not None and image < (total := round(sum(baseline.values()), 1)):
            self.note(f"{at}.image", f"{image} MB is below its baseline of {total} MB")
        return Budget(key, baseline, image, layers) if len(self.problems) == before else None

    def key(self, at: str, raw: dict[str, Any]) -> Key:
        matrix = self.pins
        release = matrix.releases.get(str(raw.get("release")))
        known: dict[str, Iterable[str]] = {
            "release": matrix.releases,
            "platform": release.platforms if release else matrix.platforms,
            "os": matrix.oses,
            "arch": matrix.arches,
            "base": BASES,
            "compression": COMPRESSIONS,
        }
        if raw.get("platform") == CPU:
            locks = [vllm.lock for vllm in matrix.cpu.vllm_versions.values()]
            known |= {"release": locks, "platform": [CPU], "os": [matrix.cpu.os.name]}
            known |= {"base": CPU_BASES}
        for name, words in known.items():
            if name not in raw:
                self.note(f"{at}.{name}", "is missing")
            elif str(raw[name]) not in words:
                self.note(
                    f"{at}.{name}",
                    f"'{raw[name]}' is not there",
                    did_you_mean(str(raw[name]), words),
                )
        return Key(**{name: str(raw.get(name)) for name in known})

    def megabytes(self, at: str, value: Any) -> dict[str, float]:
        """A mapping of layers to sizes."""
        sizes = self.mapping(at, value)
        return {name: size for name, size in sizes.items() if self.size(f"{at}.{name}", size)}

    def size(self, at: str, value: Any) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = number and math.isfinite(value) and value >= 0
        if not good:
            self.note(at, f"must be a number of MB, is {kind(value)}")
        return good
