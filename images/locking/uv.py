"""The uv of this project's environment, which resolves packages and makes environments."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from common.errors import EX_UNAVAILABLE, user_error

UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"


def uv(*arguments: str, stdin: str = "") -> str:
    """What it prints. Raises UserError (69) with its words when it fails."""
    answer = subprocess.run([UV, *arguments], input=stdin, capture_output=True, text=True)
    if answer.returncode:
        words = " ".join(answer.stderr.split())
        where = f"uv {' '.join(arguments[:2])}"
        raise user_error(where, words or "failed without a word", exit_code=EX_UNAVAILABLE)
    return answer.stdout
