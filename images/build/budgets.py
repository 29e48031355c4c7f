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

    On platform cpu, `release` is the lock, such as cpu-0.13.0: the size depends on its vLLM.
    """

    release: str
    platform: str
    os: str
    arch: str
    base: str
    compression: str

    @classmethod
    def of(cls, variant: Variant, base: str, size: CompressedSize) -> Key:
        """The key of an image to build; `base` is the kind."""
        release = variant.cpu_vllm.lock if variant.cpu_vllm else variant.release.name
        names = (release, variant.platform.name, variant.os.name)
        return cls(*names, size.arch, base, size.compression)

    def __str__(self) -> str:
        where = f"{self.release} {self.platform} {self.os} {self.arch}"
        return f"{where} on {self.base}, {self.compression}"


@dataclass(frozen=True)
class Budget(Key):
    """Compressed MB. `image` and `layers` are limits, `baseline` what was measured."""

    baseline: Mapping[str, float]
    image: float | None = None
    layers: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> Key:
        return Key(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Key)})


@dataclass(frozen=True)
class Verdict:
    """The result of `check`: each layer with its baseline, and what is over budget."""

    reference: str
    key: Key
    size: float
    limit: float | None
    known: bool
    layers: tuple[tuple[str, float, float | None], ...]  # name, MB, MB of the baseline
    problems: tuple[Finding, ...]


@dataclass(frozen=True)
class _File:
    budgets: tuple[Budget, ...]


Budgets = Mapping[Key, Budget]


def load(matrix: Matrix, path: Path = PATH) -> Budgets:
    """Read and check the budgets. Raises UserError (65) with every problem found."""
    reader = _BudgetReader(path.name, matrix)
    budgets = reader.budgets(document(path))
    if reader.problems:
        raise UserError(reader.problems, EX_DATAERR)
    return budgets


def check(budgets: Budgets, reference: str, key: Key, layers: Mapping[str, int]) -> Verdict:
    """Compare the layers of an image (name → compressed bytes, bottom up) with its budget."""
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
    """Reads budgets.yaml; names are those of the matrix, and sizes are at least 0."""

    def __init__(self, file: str, matrix: Matrix) -> None:
        super().__init__(file)
        self.matrix = matrix

    def budgets(self, value: Any) -> Budgets:
        entries = self.fields("", value, _File).get("budgets", [])
        if not isinstance(entries, list):
            self.note("budgets", f"must be a list, is {kind(entries)}")
            return {}
        result: dict[Key, Budget] = {}
        for index, item in enumerate(entries):
            at, before = f"budgets[{index}]", len(self.problems)
            budget = self.build(at, item, Budget)
            self.check_names(at, budget)
            if len(self.problems) == before:
                self.check_limits(at, budget)
                if budget.key in result:
                    self.note(at, f"a second budget for {budget.key}")
                result[budget.key] = budget
        return result

    def check_names(self, at: str, budget: Budget) -> None:
        matrix = self.matrix
        release = matrix.releases.get(budget.release)
        names: dict[str, Iterable[str]] = {
            "release": matrix.releases,
            "platform": release.platforms if release else matrix.platforms,
            "os": matrix.oses,
            "arch": matrix.arches,
            "base": BASES,
            "compression": COMPRESSIONS,
        }
        if budget.platform == CPU:
            locks = [vllm.lock for vllm in matrix.cpu.vllm_versions.values()]
            names |= {"release": locks, "platform": [CPU], "os": [matrix.cpu.os.name]}
            names |= {"base": CPU_BASES}
        for field, known in names.items():
            name = getattr(budget, field)
            if name is not None and name not in known:
                self.note(f"{at}.{field}", f"'{name}' is not known", did_you_mean(name, known))

    def check_limits(self, at: str, budget: Budget) -> None:
        baseline = budget.baseline
        for name, limit in budget.layers.items():
            if name not in baseline:
                self.note(f"{at}.layers.{name}", "has no baseline", did_you_mean(name, baseline))
            elif limit < baseline[name]:
                self.note(f"{at}.layers.{name}", f"is below its baseline of {baseline[name]} MB")
        total = round(sum(baseline.values()), 1)
        if budget.image is not None and budget.image < total:
            self.note(f"{at}.image", f"{budget.image} MB is below its baseline of {total} MB")

    def scalar(self, key: str, value: Any, hint: Any) -> Any:
        if hint is not float:
            return super().scalar(key, value, hint)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            self.note(key, f"must be a number of MB, is {kind(value)}")
        return value
