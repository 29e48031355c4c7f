"""What can run in place of vLLM on NPUs: an image, what is put into it, what it needs changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clusters.model import Cluster
from validation.rehearsal.sizes import Machine


@dataclass(frozen=True)
class Mount:
    """A file or directory of this machine in every container, read only."""

    source: Path
    target: str


@dataclass(frozen=True)
class Engine:
    """`runs`: it in words. `build`: the command that makes its image, `labels`: what that has.

    `translate`: the cluster as this engine can run it, with what that has changed, in words.
    `timeout`: seconds until everything has to be healthy. `interval`: seconds between two looks at
    the health of a container that starts. `patience`: seconds after a fault until it has to serve
    again. `every`: seconds between two requests meanwhile.
    """

    image: str
    runs: str
    build: str
    translate: Callable[[Cluster, Machine], tuple[Cluster, tuple[str, ...]]]
    mounts: tuple[Mount, ...]
    timeout: float
    interval: float
    patience: float
    every: float
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
