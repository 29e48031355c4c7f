"""The docker command: run it, keep what it said, and say what failed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class BenchmarkError(RuntimeError):
    """Something the benchmark runs failed; the message says what and where its words are."""


def docker(*arguments: str) -> str:
    """Run docker and return what it printed. Raises BenchmarkError with its words."""
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if answer.returncode:
        words = answer.stderr.strip()[-800:]
        raise BenchmarkError(f"docker {' '.join(arguments[:3])}: {words}")
    return answer.stdout


def timed(
    command: Sequence[str],
    log: Path,
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> float:
    """Wall seconds of a command, its words in `log`. Raises BenchmarkError when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        start = time.perf_counter()
        answer = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
    if answer.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BenchmarkError(f"{' '.join(command[:6])} … failed, see {log}:\n{tail}")
    return seconds


def forget(prefix: str) -> None:
    """Remove the images whose name starts with `prefix`, and all of the builder's cache."""
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    for name in names:
        if name.startswith(prefix):
            docker("image", "rm", "--force", name)
    docker("builder", "prune", "--all", "--force")
