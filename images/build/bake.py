"""Run BuildKit on a bake file: show its progress, return digests, explain a failure."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import docker
from common.errors import EX_SOFTWARE, Finding, UserError
from common.process import end
from images.build.progress import Progress, Step

# Pattern in the output of a failed build → what to do about it.
REMEDIES = {
    r"no space left on device": "the disk is full: docker builder prune frees the build cache",
    r"Hash mismatch|DO NOT MATCH THE HASHES": (
        "the file of the index differs from the lock: run invoke lock --check, and do not trust an "
        "index that changes packages"
    ),
    r"CERTIFICATE_VERIFY_FAILED|unknown authority|UnknownIssuer|invalid peer certificate": (
        "--certificates FILE names your CA bundle"
    ),
    r"exec format error": (
        "this stage runs on the image's architecture: build on such a machine (--builder), or "
        "register an emulator"
    ),
    r"dns error|name resolution|Could not connect|Connection refused|error sending request": (
        "an index or mirror does not answer: --pip-index, --apt-mirror, --dnf-mirror"
    ),
    r"(unexpected|unsupported) media type|manifest invalid": (
        "this registry does not accept zstd layers: --compression gzip"
    ),
}
GRACE = 10  # seconds for buildx to stop its builder
SIGNIFICANT = re.compile(
    r"error|\u00d7|\u2570\u2500\u25b6|mismatch|sha256:|no such|not found|denied|is not |lacks",
    re.IGNORECASE,
)


def bake(
    targets: Mapping[str, Mapping[str, Any]],
    directory: Path,
    progress: Progress,
    *,
    builder: str | None = None,
    no_cache: bool = False,
) -> dict[str, Any]:
    """Build all targets in one graph, and return buildx's metadata by target.

    Raises UserError: 69 when no engine answers, 70 when a step failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file, metadata = directory / "bake.json", directory / "metadata.json"
    group = {"default": {"targets": sorted(targets)}}
    file.write_text(
        json.dumps({"group": group, "target": targets}, indent=1, sort_keys=True) + "\n"
    )
    metadata.unlink(missing_ok=True)
    command = [
        "docker",
        "buildx",
        "bake",
        "--progress=rawjson",
        "--file",
        str(file),
        "--metadata-file",
        str(metadata),
    ]
    command += ["--builder", builder] if builder else []
    command += ["--no-cache"] if no_cache else []
    try:
        _run(command, progress)
    except UserError:
        if not progress.forget_lost_session():
            raise
        _run(command, progress)
    return dict(json.loads(metadata.read_text())) if metadata.is_file() else {}


def _run(command: Sequence[str], progress: Progress) -> None:
    with _started(command) as process, progress:
        assert process.stderr is not None
        for line in process.stderr:
            progress.feed(line)
    if process.returncode:
        raise failure(progress)


@contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process; end it and its children when the block fails or is interrupted."""
    process = None
    try:
        with _signals_held():
            process = _start(command)
        yield process
    except BaseException:
        if process:
            end(process, GRACE)
        raise
    finally:
        if process:
            assert process.stderr is not None
            process.stderr.close()
            process.wait()


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,  # docker starts buildx, and may end before it
        )
    except FileNotFoundError:
        raise docker.not_installed() from None


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM: until a process has started, there is nothing to end."""
    pending: list[int] = []
    before = {
        one: signal.signal(one, lambda number, _: pending.append(number))
        for one in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for number in pending:
        signal.raise_signal(number)


def failure(progress: Progress) -> UserError:
    """The error of a failed build, with the output of the steps that failed."""
    words = " ".join(line for line in progress.messages if line.startswith("ERROR")) or " ".join(
        progress.messages
    )
    if docker.NO_ENGINE.search(words):
        return docker.no_engine(words)
    steps = progress.failed() or ([] if words else progress.cancelled())
    problems = [_problem(step) for step in steps] or [
        Finding("docker buildx bake", words or "failed without output", _remedy(words))
    ]
    return UserError(problems, EX_SOFTWARE)


def _remedy(words: str) -> str:
    remedies = (
        advice for pattern, advice in REMEDIES.items() if re.search(pattern, words, re.IGNORECASE)
    )
    return next(remedies, "")


def _problem(step: Step) -> Finding:
    log = [line for line in step.log if not line.startswith("WARNING")]
    lines = list(filter(SIGNIFICANT.search, log)) or step.log
    words = " | ".join(line.strip() for line in lines[-8:]) or step.error
    return Finding(step.stage or step.title, words, _remedy(f"{step.error} {' '.join(step.log)}"))
