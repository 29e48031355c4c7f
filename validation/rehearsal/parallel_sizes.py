"""Scale parallel sizes to a machine: keep the file's shape, with at least a worker a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clusters.model import Instance
from entrypoints.inputs.recipes import Sizes
from validation.rehearsal.cpu_rules import Worker


@dataclass(frozen=True)
class Machine:
    """The cores, and GiB of memory, that all containers share."""

    cores: int
    gib: float

    def workers(self, worker: Worker) -> int:
        """How many workers fit without sharing cores."""
        return int(min(self.cores / worker.cores, self.gib / worker.gib))


def container_count(instances: Mapping[str, Instance]) -> int:
    """The number of containers with workers: one for each node of each replica."""
    return sum(one.each * one.replicas for one in instances.values())


def scale(sizes: Sizes, nodes: int, workers: int, max_tensor_parallel: int) -> Sizes:
    """Scale the sizes to at most `workers`, and at least one, on each of the `nodes`.

    Data parallel ranks stay spread over the nodes. One rank over several nodes (vLLM's --nnodes)
    stays one: by pipeline parallelism if the file has it, else by tensor parallelism.
    """
    dp = sizes.dp or 1
    if nodes > 1 and dp == 1:
        spread = {"pp": nodes} if (sizes.pp or 1) % nodes == 0 else {"tp": nodes}
        return _replace(sizes, **{"tp": 1, "pp": 1, **spread, "pcp": 1})
    local = _largest_divisor(sizes.dp_local or max(dp // nodes, 1), workers)
    tp = _largest_divisor(sizes.tp or 1, min(workers // local, max_tensor_parallel))
    return _replace(sizes, tp=tp, pp=1, pcp=1, dp=local * nodes, dp_local=local)


def _largest_divisor(size: int, limit: int) -> int:
    """The largest divisor of `size` up to `limit`; at least 1."""
    divisors = (part for part in range(1, size + 1) if part <= limit and size % part == 0)
    return max(divisors, default=1)


def _replace(sizes: Sizes, **new: int) -> Sizes:
    """Replace sizes; a size that is not given stays so unless its new value is above 1."""
    return sizes._replace(**{k: v for k, v in new.items() if getattr(sizes, k) or v > 1})
