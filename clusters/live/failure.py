"""Why a container counts as failed."""

from __future__ import annotations

import signal
from functools import cache
from pathlib import Path

from clusters.live.engine import ContainerState, Engine, Rejected, Unreachable
from entrypoints.inputs import data


def failure_reason(engine: Engine, seen: ContainerState | None, restarts: int = 0) -> str:
    """Empty for one that has not failed; `restarts`: how often it had been started again before."""
    if seen is None:
        return "it is gone: someone has removed it"
    if seen.state in ("exited", "dead"):
        return exit_reason(seen)
    if seen.state == "restarting" or seen.restarts > restarts:
        return f"{exit_code_text(_last_code(engine, seen))}; its restart policy starts it again"
    if seen.health == "unhealthy":
        return f"its health check fails: {seen.probe or 'it says nothing'}"
    return ""


def _last_code(engine: Engine, seen: ContainerState) -> int | None:
    if seen.state == "restarting":
        return seen.exit_code
    try:
        return engine.exit_code(seen)
    except (Unreachable, Rejected):
        return None


def exit_reason(seen: ContainerState) -> str:
    """What an end means."""
    if seen.error:
        return f"the engine cannot start it: {seen.error}"
    if seen.out_of_memory:
        return f"exit code {seen.exit_code}: memory ran out"
    return exit_code_text(seen.exit_code)


def exit_code_text(code: int | None) -> str:
    if code is None:
        return "it ended"
    known = exit_codes().get(code)
    if known is None and code - 128 in set(signal.Signals):
        known = f"ended by {signal.Signals(code - 128).name}"
    return f"exit code {code}: {known or 'of the command itself'}"


@cache
def exit_codes() -> dict[int, str]:
    """Every exit code that a container of ours has on purpose."""
    codes: dict[int, str] = data.read(str(Path(__file__).parent / "exit_codes.yaml"))
    return codes
