"""Run the docker command, keep its output, and report what failed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class BenchmarkError(RuntimeError):
    """A program that the benchmark runs failed; the message names it and the file with its
    output."""


def docker(*arguments: str) -> str:
    """Run docker and return what it printed. Raises BenchmarkError with its output."""
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
    """The wall seconds of a command, whose output goes to `log`. Raises BenchmarkError when it
    fails."""
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
