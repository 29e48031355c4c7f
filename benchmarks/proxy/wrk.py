"""wrk, the load generator: its command and what it printed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.proxy.cases import Case, Load
from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, user_error

SCRIPT = Path(__file__).parent / "load.lua"
TIMEOUT = 30  # seconds after which wrk counts an answer as missing


def find() -> str:
    """wrk's path. Raises UserError (69) when it is not there."""
    found = shutil.which("wrk")
    if not found:
        raise user_error("wrk", "is not installed", "apt-get install wrk", EX_UNAVAILABLE)
    return found


def command(wrk: str, url: str, case: Case, seconds: int, run: str, two: bool) -> list[str]:
    """`two`: the client does both hops. `run`: the first part of every prompt."""
    options = ["-t1", f"-c{case.connections}", f"-d{seconds}s", f"--timeout={TIMEOUT}s"]
    answer = "stream" if case.stream else "whole"
    mode = ["two" if two else "one", answer, str(case.size), run]
    return [wrk, *options, "-s", str(SCRIPT), f"{url}/v1/completions", "--", *mode]


def parse(text: str) -> Load:
    """The last line of load.lua. Raises UserError (70) with what is there instead."""
    lines = text.strip().splitlines() or [""]
    try:
        return Load(**json.loads(lines[-1]))
    except (ValueError, TypeError):
        raise user_error("wrk", f"printed {lines[-1]!r}", "", EX_SOFTWARE) from None


def run(argv: list[str]) -> Load:
    """Raises UserError (70) when wrk fails."""
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise user_error("wrk", (done.stderr or done.stdout).strip(), "", EX_SOFTWARE)
    return parse(done.stdout)
