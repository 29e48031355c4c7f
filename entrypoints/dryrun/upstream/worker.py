"""Stages `model` and `memory`: upstream's own worker, on tensors without memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from entrypoints.dryrun.upstream import devices, releases
from entrypoints.inputs.model import EXPERTS

# The kinds of weights, by what the name of a parameter contains; the first match wins.
_KINDS = (
    ("experts", (".experts.",)),
    ("attention", ("attn", "attention")),
    ("embeddings", ("embed_tokens", "lm_head", "word_embeddings")),
    ("vision", ("visual", "vision")),
)


def ranks(config: Any) -> list[tuple[int, int]]:
    """The distinct ranks of this node: (data parallel rank, rank within it).

    A pipeline stage has its own layers; all ranks of a stage hold the same shapes, unless the
    experts do not divide by the expert parallel ranks: then the last rank has fewer.
    """
    parallel = config.parallel_config
    stage = parallel.world_size // parallel.pipeline_parallel_size
    local = parallel.world_size // max(1, getattr(parallel, "nnodes_within_dp", 1))
    first = local * getattr(parallel, "node_rank_within_dp", 0)
    here = range(first, first + local)
    dp = parallel.data_parallel_rank or 0
    found = [(dp, rank) for rank in here if rank % stage == 0 or rank == first]
    experts = _experts(config)
    if experts and parallel.enable_expert_parallel:
        spread = stage * parallel.data_parallel_size
        if experts % spread:
            last_dp = parallel.data_parallel_size - 1
            found += [(last_dp, rank + stage - 1) for _, rank in found]
    return sorted(set(found))


def _experts(config: Any) -> int:
    text = config.model_config.hf_text_config
    return next((int(n) for name in EXPERTS if (n := getattr(text, name, 0))), 0)


def build(config: Any, rank: tuple[int, int], hbm: int, count: int) -> dict[str, Any]:
    """Build the model of one rank. Raises what upstream raises.

    Returns bytes: `weights` by kind, `page` of one block of the KV cache over all layers; and
    `specs`, for `capacity`.
    """
    from vllm.config import set_current_vllm_config

    devices.replace(hbm, count)
    module = releases.worker()
    config.parallel_config.data_parallel_rank = rank[0]
    config.parallel_config.rank = rank[1]
    with devices.NoMemory(), set_current_vllm_config(config):
        worker = module.NPUWorker(
            vllm_config=config,
            local_rank=0,
            rank=rank[1],
            distributed_init_method="tcp://127.0.0.1:1",
            is_driver_worker=True,
        )
        worker.init_device()
        worker.load_model()
        specs = worker.get_kv_cache_spec()
    return {
        "rank": rank,
        "weights": _weights(worker.model_runner),
        "page": sum(one.page_size_bytes for one in specs.values()),
        "specs": specs,
    }


def _weights(runner: Any) -> dict[str, int]:
    """Bytes of the parameters by kind; each tensor counts once."""
    found: dict[str, int] = {}
    seen = set[int]()
    for kind, parameter in _parameters(runner):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found[kind] = found.get(kind, 0) + parameter.numel() * parameter.element_size()
    return found


def _parameters(runner: Any) -> Iterator[tuple[str, Any]]:
    for name, parameter in runner.model.named_parameters():
        yield _kind(name), parameter
    draft = getattr(getattr(runner, "drafter", None), "model", None)
    if draft is not None:
        for _, parameter in draft.named_parameters():
            yield "draft", parameter


def _kind(name: str) -> str:
    return next((kind for kind, parts in _KINDS if any(one in name for one in parts)), "other")


def allowance(config: Any) -> int:
    """Bytes for what is neither weights nor KV cache: activations, graphs, the runtime, HCCL.

    Fitted to 9 starts whose public logs print the parts: HCCL takes twice HCCL_BUFFSIZE (MB), the
    runtime 0.6 GiB; activations stay below 24 values of 2 bytes for each token and hidden unit.
    """
    buffers = 2 * int(os.environ.get("HCCL_BUFFSIZE") or 200) << 20
    hidden = int(config.model_config.get_hidden_size())
    activations = 24 * 2 * hidden * config.scheduler_config.max_num_batched_tokens
    shared = buffers if config.parallel_config.world_size_across_dp > 1 else 0
    return int(0.6 * (1 << 30) + activations + shared)


def capacity(config: Any, specs: list[dict[str, Any]], available: list[int]) -> int:
    """Tokens that fit into the bytes left on each rank, by upstream's division of the KV cache.

    Raises ValueError if upstream finds that one request of full length does not fit.
    """
    from vllm.v1.core.kv_cache_utils import get_kv_cache_configs

    made = get_kv_cache_configs(config, specs, available)
    blocks = min(one.num_blocks for one in made)
    groups = max(1, len(made[0].kv_cache_groups))
    parallel = config.parallel_config
    shared = parallel.decode_context_parallel_size * getattr(
        parallel, "prefill_context_parallel_size", 1
    )
    return int(blocks // groups * config.cache_config.block_size * shared)
