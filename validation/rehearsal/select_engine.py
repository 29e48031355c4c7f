"""Select the engine of a rehearsal: `--engine`."""

from __future__ import annotations

from clusters.model import Cluster
from common.errors import did_you_mean, user_error
from validation.rehearsal import recorded_engine, vllm_engine
from validation.rehearsal.engine import Engine

RECORDED, VLLM = "recorded", "vllm"


def select(name: str, cluster: Cluster, image: str = "", model: str = "") -> Engine:
    """Return the engine called `name`.

    Raises UserError (64) for an unknown name, or a model that the engine cannot load.
    """
    if name == VLLM:
        return vllm_engine.engine(cluster, image, model or vllm_engine.TINY)
    if name != RECORDED:
        fix = did_you_mean(name, (RECORDED, VLLM))
        raise user_error("--engine", f"'{name}' is not an engine", fix)
    if model:
        raise user_error(
            "--model", "the recorded engine loads no model", f"give --engine {VLLM} as well"
        )
    return recorded_engine.engine(cluster, image)
