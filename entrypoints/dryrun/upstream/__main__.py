"""Read nodes from stdin as JSON, and write upstream's answer about each on a line."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any

from entrypoints.dryrun.upstream import forks


def main() -> int:
    """Import once, then fork for each node. Write the answers to the original stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # upstream prints, too

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    request = json.load(sys.stdin)
    started = time.monotonic()
    try:
        ask = _import()
    except Exception as error:
        traceback.print_exc()
        answer(unusable=f"{type(error).__name__}: {error}")
        return 0
    answer(imported=round(time.monotonic() - started, 1))
    waiting = list(enumerate(request["nodes"]))
    running: list[tuple[int, forks.Fork]] = []
    while waiting or running:
        while waiting and len(running) < request["parallel"]:
            number, node = waiting.pop(0)
            running.append((number, forks.Fork(ask, node, request["model"])))
        number, fork = running.pop(0)
        try:
            answer(node=number, **fork.result())
        except forks.Ended as error:
            answer(node=number, ended=str(error))
    return 0


def _import() -> Any:
    from entrypoints.dryrun.upstream.node import OFFLINE

    os.environ.update(OFFLINE)
    import torch_npu  # noqa: F401
    import vllm.engine.arg_utils
    import vllm.entrypoints.cli.serve  # noqa: F401
    from vllm.platforms import current_platform

    if current_platform.device_type != "npu":
        raise RuntimeError(f"vLLM's platform here is {current_platform.device_type}, not npu")
    import vllm_ascend.worker.model_runner_v1  # noqa: F401

    from entrypoints.dryrun.upstream.node import ask

    return ask


if __name__ == "__main__":
    sys.exit(main())
