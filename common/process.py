"""Processes that lead their own process group."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any


def end(process: subprocess.Popen[Any], patience: float) -> None:
    """Terminate a process group, and kill it after `patience` seconds or at a second interrupt."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(patience)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
