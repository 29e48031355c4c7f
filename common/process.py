"""Programs that run in a process group of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any


def end(process: subprocess.Popen[Any], patience: float) -> None:
    """End a program and what it started: politely, and by force after `patience` seconds.

    Who interrupts a second time does not wait for it.
    """
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(patience)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
