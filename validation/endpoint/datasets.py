"""Data sets for accuracy: checks the user's files before anything runs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError, did_you_mean, user_error
from common.yaml import document

SETTINGS = Path(__file__).parent / "accuracy.yaml"
NAME = "{name}"


@dataclass(frozen=True)
class Reference:
    """Upstream's measurement."""

    accuracy: float
    model: str
    source: str
    made_with: str


@dataclass(frozen=True)
class Dataset:
    """A data set of AISBench. The first of `files` holds the questions."""

    name: str
    title: str
    config: str
    list: str
    abbr: str
    files: tuple[str, ...]
    columns: tuple[str, ...]
    advice: str
    questions: int
    reference: Reference | None


@dataclass(frozen=True)
class Settings:
    """accuracy.yaml."""

    source: str
    model: Mapping[str, Any]
    datasets: Mapping[str, Dataset]
    environment: Mapping[str, str]

    @classmethod
    def load(cls) -> Settings:
        raw = document(SETTINGS)
        known = {name: _dataset(name, one) for name, one in raw["datasets"].items()}
        return cls(raw["source"], raw["model"], known, raw["environment"])

    def dataset(self, name: str) -> Dataset:
        """Raises UserError for an unknown name."""
        if name not in self.datasets:
            hint = did_you_mean(name, self.datasets)
            raise user_error("--dataset", f"'{name}' is not known" if name else "is missing", hint)
        return self.datasets[name]


@dataclass(frozen=True)
class LocalData:
    """A data set in a directory: its parts, and the number of their questions."""

    dataset: Dataset
    directory: Path
    parts: tuple[str, ...]
    questions: int

    @property
    def abbrs(self) -> list[str]:
        """AISBench's names of the parts."""
        return [self.dataset.abbr.replace(NAME, part) for part in self.parts]

    @property
    def complete(self) -> bool:
        return self.questions == self.dataset.questions


def check_data(dataset: Dataset, directory: Path) -> LocalData:
    """Check that every part is complete. Raises UserError (65) with everything that is wrong."""
    parts = sorted(_parts(dataset, directory))
    if not parts:
        first = dataset.files[0].replace(NAME, "NAME")
        raise user_error("--data", f"{directory} has no {first}", dataset.advice, EX_DATAERR)
    problems: list[Finding] = []
    questions = 0
    for part in parts:
        for number, pattern in enumerate(dataset.files):
            path = directory / pattern.replace(NAME, part)
            try:
                count = sum(1 for _ in _rows(path, dataset.columns))
            except ValueError as error:
                problems.append(Finding(str(path), str(error), dataset.advice))
                continue
            questions += count if number == 0 else 0
    if problems:
        raise UserError(problems, EX_DATAERR)
    return LocalData(dataset, directory.resolve(), tuple(parts), questions)


def _parts(dataset: Dataset, directory: Path) -> Iterator[str]:
    first = dataset.files[0]
    pattern = re.compile(re.escape(first).replace(re.escape(NAME), "(.+)"))
    for path in directory.glob(first.replace(NAME, "*")):
        found = pattern.fullmatch(path.relative_to(directory).as_posix())
        if found:
            yield found[1] if found.groups() else dataset.name


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """The rows of a file. Raises ValueError with what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    lines = text.splitlines(keepends=True)
    known: Iterator[Any] = (
        csv.DictReader(lines) if path.suffix == ".csv" else (_json(line) for line in lines)
    )
    number = 0
    for number, row in enumerate(known, 1):
        missing = [one for one in columns if not isinstance(row, dict) or row.get(one) is None]
        # In some sets, the questions of the test part have no answers.
        if missing and missing != ["answer"]:
            raise ValueError(f"question {number} has no {', '.join(missing)}")
        yield row
    if not number:
        raise ValueError("has no questions")


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise ValueError(f"is not JSON Lines: {line[:40].strip()}") from None


def _dataset(name: str, raw: Mapping[str, Any]) -> Dataset:
    reference = Reference(**raw["reference"]) if "reference" in raw else None
    lists = {key: tuple(raw[key]) for key in ("files", "columns")}
    return Dataset(name=name, **{**raw, **lists, "reference": reference})
