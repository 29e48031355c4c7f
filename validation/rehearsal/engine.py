"""What runs in place of vLLM on NPUs: an image, its mounts, and the changes it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clusters.model import Cluster
from validation.rehearsal.parallel_sizes import Machine


@dataclass(frozen=True)
class Mount:
    """A file or directory of this machine, mounted read-only into every container."""

    source: Path
    target: str


@dataclass(frozen=True)
class Engine:
    """An engine for rehearsals.

    `translate` returns the cluster as this engine can run it, and a line for each change.
    `build_command` builds the image, which then has `labels`. Times are in seconds: `timeout` until
    all containers are healthy, `health_interval` between two health probes of a starting container,
    `recovery_timeout` after a fault, `request_interval` between two requests during a fault.
    """

    image: str
    description: str
    build_command: str
    translate: Callable[[Cluster, Machine], tuple[Cluster, tuple[str, ...]]]
    mounts: tuple[Mount, ...]
    timeout: float
    health_interval: float
    recovery_timeout: float
    request_interval: float
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
