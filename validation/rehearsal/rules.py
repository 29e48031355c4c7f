"""What becomes of a cluster for NPUs where vLLM runs on the processor: processor.yaml, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, UserError
from common.yaml import Reader, Words, document, kind

PATH = Path(__file__).parent / "processor.yaml"


@dataclass(frozen=True)
class Names:
    """Names, which may have wildcards, and why they are left out."""

    names: Words
    why: str


@dataclass(frozen=True)
class Value:
    """What a flag (without dashes) or a variable gets, and why."""

    name: str
    value: Any
    why: str


@dataclass(frozen=True)
class Without:
    flags: tuple[Names, ...]
    variables: tuple[Names, ...]
    features: tuple[Names, ...]


@dataclass(frozen=True)
class With:
    flags: tuple[Value, ...]
    variables: tuple[Value, ...]


@dataclass(frozen=True)
class Worker:
    """What one worker takes of the machine: cores, and GiB of memory."""

    cores: float
    gib: float


@dataclass(frozen=True)
class Port:
    """The variable of a port: `first` for the first instance, `step` more for every further one."""

    variable: str
    first: int
    step: int


@dataclass(frozen=True)
class Transfer:
    """`keys` are of the kv-transfer-config, `kept` those that stay as the file has them.

    `elsewhere`: why other roles have no transfer.
    """

    connector: str
    keys: Mapping[str, Any]
    kept: Words
    variables: Mapping[str, str]
    port: Port
    why: str
    elsewhere: str


@dataclass(frozen=True)
class Rules:
    """processor.yaml; the file says what each key means, and those of times are in seconds."""

    engines: Words
    timeout: float
    patience: float
    every: float
    interval: float
    shm_gib: int
    worker: Worker
    tensor: int
    refused: Mapping[str, str]
    external: str
    concurrency: str
    without: Without
    given: With
    most: tuple[Value, ...]
    transfer: Transfer


def why(name: str, of: tuple[Names, ...]) -> str:
    """Why the name is left out; empty when it stays."""
    matching = (one.why for one in of if any(fnmatchcase(name, word) for word in one.names))
    return next(matching, "")


def load(path: Path = PATH) -> Rules:
    """Read and check the rules. Raises UserError (65) with every problem found."""
    reader = _Reader(path.name)
    rules = reader.rules(document(path))
    if reader.problems:
        raise UserError(reader.problems, EX_DATAERR)
    return rules


class _Reader(Reader):
    def note(self, key: str, what: str, fix: str = "") -> None:
        super().note(key.lstrip(".") or "the file", what, fix)

    def rules(self, value: Any) -> Rules:
        document = {("given" if k == "with" else k): v for k, v in self.mapping("", value).items()}
        raw = self.fields("", document, Rules)
        for key in ("timeout", "patience", "every", "interval", "shm_gib", "tensor"):
            if key in raw:
                self.number(key, raw[key])
        self.texts("", raw, "external", "concurrency")
        refused = self.mapping("refused", raw.get("refused"))
        self.texts("refused", refused, *refused)
        without = self.fields("without", raw.get("without"), Without)
        given = self.fields("with", raw.get("given"), With)
        return self.make(  # type: ignore[no-any-return]
            Rules,
            **{
                **raw,
                "engines": self.words("engines", raw.get("engines")),
                "refused": refused,
                "worker": self.worker(raw.get("worker")),
                "without": Without(**{k: self.names(f"without.{k}", v) for k, v in without.items()})
                if len(without) == 3
                else None,
                "given": With(**{k: self.values(f"with.{k}", v) for k, v in given.items()})
                if len(given) == 2
                else None,
                "most": self.caps(raw.get("most")),
                "transfer": self.transfer(raw.get("transfer")),
            },
        )

    def number(self, key: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            self.note(key, f"must be a number above 0, is {kind(value)}")

    def worker(self, value: Any) -> Worker:
        raw = self.fields("worker", value, Worker)
        for key, number in raw.items():
            self.number(f"worker.{key}", number)
        return self.make(Worker, **raw)  # type: ignore[no-any-return]

    def rows(self, key: str, value: Any, cls: type) -> list[tuple[str, dict[str, Any]]]:
        """Each item of a list with its place, as keyword arguments of a class with a `why`."""
        if not isinstance(value, list):
            self.note(key, f"must be a list, is {kind(value)}")
            return []
        rows = []
        for at, item in enumerate(value):
            place = f"{key}[{at}]"
            raw = self.fields(place, item, cls)
            self.texts(place, raw, "why")
            if raw.get("why") == "":
                self.note(f"{place}.why", "is empty", "say why")
            rows.append((place, raw))
        return rows

    def names(self, key: str, value: Any) -> tuple[Names, ...]:
        found = []
        for place, raw in self.rows(key, value, Names):
            raw["names"] = self.words(f"{place}.names", raw.get("names"))
            found.append(self.make(Names, **raw))
        every = [name for one in found for name in one.names]
        for name in sorted({one for one in every if every.count(one) > 1}):
            self.note(key, f"'{name}' twice")
        return tuple(found)

    def values(self, key: str, value: Any) -> tuple[Value, ...]:
        found = []
        for place, raw in self.rows(key, value, Value):
            self.texts(place, raw, "name")
            if key.endswith("variables"):
                self.texts(place, raw, "value")
            found.append(self.make(Value, **raw))
        return tuple(found)

    def caps(self, value: Any) -> tuple[Value, ...]:
        found = self.values("most", value)
        for at, one in enumerate(found):
            self.number(f"most[{at}].value", one.value)
        return found

    def transfer(self, value: Any) -> Transfer:
        raw = self.fields("transfer", value, Transfer)
        self.texts("transfer", raw, "connector", "why", "elsewhere")
        raw["keys"] = self.mapping("transfer.keys", raw.get("keys"))
        raw["kept"] = self.words("transfer.kept", raw.get("kept"))
        variables = self.mapping("transfer.variables", raw.get("variables"))
        self.texts("transfer.variables", variables, *variables)
        port = self.fields("transfer.port", raw.get("port"), Port)
        self.texts("transfer.port", port, "variable")
        for key in ("first", "step"):
            if key in port:
                self.number(f"transfer.port.{key}", port[key])
        made = {**raw, "variables": variables, "port": self.make(Port, **port)}
        return self.make(Transfer, **made)  # type: ignore[no-any-return]
