"""Run the uv of this project's environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from common.errors import EX_UNAVAILABLE, user_error

UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"


def uv(*arguments: str, stdin: str = "") -> str:
    """Run uv and return its output. Raises UserError (69) with its message."""
    answer = subprocess.run([UV, *arguments], input=stdin, capture_output=True, text=True)
    if answer.returncode:
        words = " ".join(answer.stderr.split())
        where = f"uv {' '.join(arguments[:2])}"
        raise user_error(where, words or "failed without output", exit_code=EX_UNAVAILABLE)
    return answer.stdout
