"""Which engine rehearses: `--engine`."""

from __future__ import annotations

from clusters.model import Cluster
from common.errors import did_you_mean, user_error
from validation.rehearsal import processor, recorded
from validation.rehearsal.engines import Engine

RECORDED, VLLM = "recorded", "vllm"


def engine(name: str, cluster: Cluster, image: str = "", model: str = "") -> Engine:
    """The engine by its name. Raises UserError (64) for another, or a model that it loads not."""
    if name == VLLM:
        return processor.engine(cluster, image, model or processor.TINY)
    if name != RECORDED:
        raise user_error("--engine", f"'{name}' is none", did_you_mean(name, (RECORDED, VLLM)))
    if model:
        raise user_error(
            "--model", "the recorded engine loads none", f"give --engine {VLLM} as well"
        )
    return recorded.engine(cluster, image)
