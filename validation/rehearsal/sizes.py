"""Parallel sizes that a machine holds, in the shape of the file: a worker or more a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clusters.model import Instance
from entrypoints.inputs.recipes import Sizes
from validation.rehearsal.rules import Worker


@dataclass(frozen=True)
class Machine:
    """What there is for all containers. `gib`: of memory."""

    cores: int
    gib: float

    def workers(self, each: Worker) -> int:
        """How many workers it holds without sharing cores."""
        return int(min(self.cores / each.cores, self.gib / each.gib))


def containers(instances: Mapping[str, Instance]) -> int:
    """How many containers run workers when each node of each replica has one."""
    return sum(one.each * one.replicas for one in instances.values())


def scaled(sizes: Sizes, nodes: int, share: int, tensor: int) -> Sizes:
    """The sizes with up to `share` workers in each of the `nodes`, one at least.

    Data parallel ranks stay spread over the nodes as they were. One rank over several nodes
    (vLLM's --nnodes) stays that, by pipeline where it was one of them, else by tensor parallel.
    `tensor`: the largest tensor parallel size.
    """
    dp = sizes.dp or 1
    if nodes > 1 and dp == 1:
        spread = {"pp": nodes} if (sizes.pp or 1) % nodes == 0 else {"tp": nodes}
        return _over(sizes, **{"tp": 1, "pp": 1, **spread, "pcp": 1})
    local = _part(sizes.dp_local or max(dp // nodes, 1), share)
    tp = _part(sizes.tp or 1, min(share // local, tensor))
    return _over(sizes, tp=tp, pp=1, pcp=1, dp=local * nodes, dp_local=local)


def _part(size: int, most: int) -> int:
    """The largest divisor of a size that is `most` at most, 1 at least."""
    return max(
        (part for part in range(1, size + 1) if part <= most and size % part == 0), default=1
    )


def _over(sizes: Sizes, **made: int) -> Sizes:
    """Those of `made` that the sizes have; what is not given is 1, and stays not given."""
    return sizes._replace(**{k: v for k, v in made.items() if getattr(sizes, k) or v > 1})
