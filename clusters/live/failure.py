"""The reasons why a container counts as failed."""

from __future__ import annotations

import signal
from functools import cache
from pathlib import Path

from clusters.live.engine import ContainerInfo, Engine, EngineError
from entrypoints.inputs import data


def failure_reason(engine: Engine, info: ContainerInfo | None, restarts: int = 0) -> str:
    """Why a container has failed, or empty. `restarts`: its restart count at the start."""
    if info is None:
        return "it is gone: somebody removed it"
    if info.state in ("exited", "dead"):
        return exit_reason(info)
    if info.state == "restarting" or info.restarts > restarts:
        return f"{exit_code_text(_last_code(engine, info))}; its restart policy starts it again"
    if info.health == "unhealthy":
        return f"its health check fails: {info.probe or 'without output'}"
    return ""


def _last_code(engine: Engine, info: ContainerInfo) -> int | None:
    if info.state == "restarting":
        return info.exit_code
    try:
        return engine.exit_code(info)
    except EngineError:
        return None


def exit_reason(info: ContainerInfo) -> str:
    """Why a container exited."""
    if info.error:
        return f"the engine cannot start it: {info.error}"
    if info.out_of_memory:
        return f"exit code {info.exit_code}: out of memory"
    return exit_code_text(info.exit_code)


def exit_code_text(code: int | None) -> str:
    if code is None:
        return "it ended"
    known = exit_codes().get(code)
    if known is None and code - 128 in set(signal.Signals):
        known = f"ended by {signal.Signals(code - 128).name}"
    return f"exit code {code}: {known or 'of the command itself'}"


@cache
def exit_codes() -> dict[int, str]:
    """The meaning of each exit code that the entrypoint uses."""
    codes: dict[int, str] = data.read(str(Path(__file__).parent / "exit_codes.yaml"))
    return codes
