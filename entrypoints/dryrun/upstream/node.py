"""Run all stages for one node."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Iterator
from typing import Any

from entrypoints.dryrun.upstream import forks, machine, readers, words, worker
from entrypoints.dryrun.upstream.configuration import Configured, configure

# These override the node's variables, so that nothing uses the network.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_MODELSCOPE": "false",
}
_NOT_HERE = ("LD_PRELOAD",)
CONFIGURATION, MODEL, MEMORY = "configuration", "model", "memory"

Finding = dict[str, Any]


def ask(node: dict[str, Any], with_model: bool) -> dict[str, Any]:
    """Ask upstream about a node; changes this process.

    Returns `findings` and `seconds` by stage; if the stages got there, what upstream `decided`, the
    `ranks` with their weights, and the `memory` for the KV cache. All sizes are bytes.
    """
    os.environ.update(node["env"])
    os.environ.update(OFFLINE)
    for name in _NOT_HERE:
        os.environ.pop(name, None)
    machine.replace()
    findings: list[Finding] = []
    seconds: dict[str, float] = {}
    result: dict[str, Any] = {"findings": findings, "seconds": seconds}
    made = None
    with _stage(CONFIGURATION, findings, seconds):
        made = configure(node["argv"])
    if made is None:
        return result
    result["decided"] = decided(made.config)
    findings += readers.unquantized(made.config)
    findings += readers.ask(made)
    unread = set(readers.unread(made))
    if with_model:
        started = time.monotonic()
        forked = [forks.Fork(_rank, made, rank, node) for rank in worker.ranks(made.config)]
        ranks = result["ranks"] = [one.result() for one in forked]
        seconds[MODEL] = round(time.monotonic() - started, 1)
        for one in ranks:
            unread &= one.pop("unread")
            findings += [found for found in one.pop("findings") if found not in findings]
        specs = [one.pop("specs", None) for one in ranks]
        if all(specs):
            weights = [sum(one["weights"].values()) for one in ranks]
            result["memory"] = _memory(made.config, node, weights, specs, findings)
    findings += (readers.ignored(name) for name in sorted(unread))
    findings += readers.unknown_variables(node["variables"])
    return result


@contextlib.contextmanager
def _stage(stage: str, findings: list[Finding], seconds: dict[str, float]) -> Iterator[None]:
    """Collect what upstream logs and raises in a stage."""
    log = words.Log()
    loggers = [logging.getLogger(name) for name in ("vllm", "vllm_ascend")]
    for one in loggers:
        one.addHandler(log)
    started = time.monotonic()
    try:
        yield
    except BaseException as error:
        traceback.print_exc()
        findings += [*log.findings(stage), words.of(error, stage)]
    else:
        findings += log.findings(stage)
    finally:
        seconds[stage] = round(time.monotonic() - started, 1)
        for one in loggers:
            one.removeHandler(log)


def _rank(made: Configured, rank: tuple[int, int], node: dict[str, Any]) -> dict[str, Any]:
    """Build the model of a rank, in a forked process."""
    findings: list[Finding] = []
    answer: dict[str, Any] = {"rank": rank, "findings": findings}
    with _stage(MODEL, findings, {}):
        answer |= worker.build(made.config, rank, node["hbm"], node["devices"])
    return {**answer, "unread": set(readers.unread(made))}


def _memory(
    config: Any, node: dict[str, Any], weights: list[int], specs: list[Any], findings: list[Finding]
) -> dict[str, Any]:
    """Let upstream divide the memory that the weights leave."""
    share = config.cache_config.gpu_memory_utilization
    allowance = node["allowance"] or worker.allowance(config)
    available = [int(node["hbm"] * share) - size - allowance for size in weights]
    memory: dict[str, Any] = {"hbm": node["hbm"], "share": share, "allowance": allowance}
    memory["available"] = min(available)
    refused: list[Finding] = []
    with _stage(MEMORY, refused, {}):
        tokens = worker.capacity(config, specs, available)
        memory["tokens"] = tokens
        memory["requests"] = tokens / config.model_config.max_model_len
    if refused and not node["allowance"]:  # the estimate alone refuses nothing
        without: list[Finding] = []
        with _stage(MEMORY, without, {}):
            worker.capacity(config, specs, [size + allowance for size in available])
        refused = without or [{**one, "severity": "warning"} for one in refused]
    findings += refused
    return memory


def decided(config: Any) -> dict[str, Any]:
    """What upstream decided from the flags."""
    compilation, scheduler = config.compilation_config, config.scheduler_config
    model, parallel = config.model_config, config.parallel_config
    mode = compilation.cudagraph_mode
    return {
        "architecture": model.architecture,
        "quantization": model.quantization,
        "graph_mode": getattr(mode, "name", mode),
        "capture_sizes": list(compilation.cudagraph_capture_sizes or ()),
        "block_size": config.cache_config.block_size,
        "max_model_len": model.max_model_len,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "max_num_seqs": scheduler.max_num_seqs,
        "async_scheduling": bool(scheduler.async_scheduling),
        "scheduler": _name(scheduler.scheduler_cls),
        "executor": _name(parallel.distributed_executor_backend),
        "world_size": parallel.world_size_across_dp,
    }


def _name(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return f"{value.__module__}.{value.__name__}"
