"""The options of the recorded server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Options:
    """The options of `vllm serve` on which nodes must agree."""

    model: str
    names: tuple[str, ...]
    host: str
    port: int
    tp: int
    pp: int
    dp: int
    dp_local: int
    start_rank: int
    headless: bool
    external: bool
    address: str
    rpc_port: int
    nodes: int
    node_rank: int
    master: tuple[str, int]
    longest: int
    key: str
    on_ray: bool
    transfer: Mapping[str, Any]

    @property
    def configuration(self) -> dict[str, Any]:
        """What must be equal on all nodes of a group; vLLM compares its hash since 0.13."""
        sizes = {"tp": self.tp, "pp": self.pp, "dp": self.dp, "rpc_port": self.rpc_port}
        return {**sizes, "model": self.model, "nodes": self.nodes}
