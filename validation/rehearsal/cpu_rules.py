"""The rules that translate a cluster for NPUs to vLLM on the CPU: reads cpu_rules.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, UserError
from common.yaml import Reader, Words, document

PATH = Path(__file__).with_name("cpu_rules.yaml")


@dataclass(frozen=True)
class Pattern:
    """Names to remove, which may have wildcards, and the reason."""

    names: Words
    why: str


@dataclass(frozen=True)
class FlagValue:
    """The value of a flag (without dashes), and the reason."""

    name: str
    value: Any
    why: str


@dataclass(frozen=True)
class VariableValue:
    """The value of an environment variable, and the reason."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Limit:
    """The largest value of a flag (without dashes), and the reason."""

    name: str
    value: int
    why: str


@dataclass(frozen=True)
class Remove:
    flags: tuple[Pattern, ...]
    variables: tuple[Pattern, ...]
    features: tuple[Pattern, ...]


@dataclass(frozen=True)
class Override:
    flags: tuple[FlagValue, ...]
    variables: tuple[VariableValue, ...]


@dataclass(frozen=True)
class Worker:
    """What one worker needs: cores, and GiB of memory."""

    cores: float
    gib: float


@dataclass(frozen=True)
class Port:
    """The variable of a port: `first` for the first instance, `step` more for each further one."""

    variable: str
    first: int
    step: int


@dataclass(frozen=True)
class Transfer:
    """`keys`: of the kv-transfer-config. `keep`: keys to keep from the file.

    `elsewhere`: why other roles have no transfer.
    """

    connector: str
    keys: Mapping[str, Any]
    keep: Words
    variables: Mapping[str, str]
    port: Port
    why: str
    elsewhere: str


@dataclass(frozen=True)
class Rules:
    """cpu_rules.yaml, which documents each key. Times are in seconds."""

    vllm_versions: Words
    timeout: float
    recovery_timeout: float
    request_interval: float
    health_interval: float
    shm_gib: int
    worker: Worker
    max_tensor_parallel: int
    unsupported: Mapping[str, str]
    external: str
    concurrency: str
    remove: Remove
    override: Override
    limits: tuple[Limit, ...]
    transfer: Transfer


def reason(name: str, patterns: tuple[Pattern, ...]) -> str:
    """Why the name is removed; empty if it stays."""
    matching = (one.why for one in patterns if any(fnmatchcase(name, word) for word in one.names))
    return next(matching, "")


def load(path: Path = PATH) -> Rules:
    """Read and check the rules. Raises UserError (65) with every problem found."""
    reader = Reader(path.name)
    rules: Rules = reader.build("", document(path), Rules)
    if not reader.problems:
        for kind in ("flags", "variables", "features"):
            every = [name for one in getattr(rules.remove, kind) for name in one.names]
            for name in sorted({one for one in every if every.count(one) > 1}):
                reader.note(f"remove.{kind}", f"'{name}' twice")
    if reader.problems:
        raise UserError(reader.problems, EX_DATAERR)
    return rules
