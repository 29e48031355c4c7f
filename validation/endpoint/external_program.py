"""Run a long-running program; its output goes to stderr."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, UserError, user_error
from common.process import end

GRACE = 20  # seconds from SIGTERM to SIGKILL
DOCKER_FAILED = 125  # docker's exit code for its own failures
VERSION = re.compile(r"^v?(\d+\.\d+(?:\.\d+)?\w*)(?:\+\S*)?$", re.MULTILINE)


def run(argv: Sequence[str], environ: Mapping[str, str], cwd: Path | None = None) -> None:
    """Run the program to its end. Raises UserError: 69 if it cannot start, 70 if it fails."""
    sys.stderr.flush()
    try:
        process = subprocess.Popen(
            argv,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,  # so that its children end with it
        )
    except OSError as error:
        raise _cannot_start(argv[0], error) from None
    try:
        code = process.wait()
    except BaseException:
        end(process, GRACE)
        raise
    if code:
        raise _failed(argv, f"ended with code {code}; see its output above", code)


def version(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """The version that `argv` prints, without the local part. Raises UserError: 69 or 70."""
    try:
        answer = subprocess.run(argv, env=environ, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise _cannot_start(argv[0], error) from None
    found = VERSION.findall(answer.stdout)
    if answer.returncode or not found:
        words = " ".join(answer.stderr.split())[-300:]
        raise _failed(argv, words or "printed no version", answer.returncode)
    return str(found[-1])


def _failed(argv: Sequence[str], what: str, code: int) -> UserError:
    docker = argv[0] == "docker" and code == DOCKER_FAILED
    return user_error(argv[0], what, exit_code=EX_UNAVAILABLE if docker else EX_SOFTWARE)


def _cannot_start(program: str, error: OSError) -> UserError:
    return user_error(
        program, f"cannot be run: {error.strerror}", "is it installed?", EX_UNAVAILABLE
    )
