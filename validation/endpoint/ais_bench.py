"""AISBench, which scores answers: install it, configure it, run it, and read its scores."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, user_error
from common.paths import WORK
from common.terminal import Say
from images.locking.index import Wheels
from images.locking.uv import uv
from validation.endpoint import external_program
from validation.endpoint.datasets import LocalData, Settings

BUILD = WORK / "ais-bench"
LOCK = Path(__file__).parent / "ais-bench.txt"
READY = "ready"  # in a complete environment: the hash of its inputs
CONFIG = "config.py"
KEY = "AIS_BENCH_KEY"


@dataclass(frozen=True)
class Target:
    """The endpoint and how to question it. `max_out_len` in tokens."""

    url: str
    model: str
    max_out_len: int
    batch_size: int
    key: str = ""


@dataclass(frozen=True)
class Score:
    """A part of a data set. `accuracy`: percent correct. `failed`: questions without an answer."""

    name: str
    accuracy: float
    questions: int
    failed: int


def install(settings: Settings, wheels: Wheels, say: Say, folder: Path = BUILD) -> str:
    """Install AISBench in build/ais-bench unless it is there. Raises UserError (69)."""
    inputs = hashlib.sha256(LOCK.read_bytes() + repr(settings.environment).encode()).hexdigest()
    ready, python = folder / READY, folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process at a time installs it
        if not (ready.is_file() and ready.read_text() == inputs):
            say(f"AISBench: installing into {folder} (a minute or two)")
            uv("venv", "-q", "--clear", "--python", settings.environment["python"], str(folder))
            into = ("pip", "install", "--quiet", "--python", str(python))
            torch = f"torch=={settings.environment['torch']}"
            uv(*into, "--require-hashes", "--no-deps", "-r", str(LOCK))
            uv(*into, *wheels.options(), torch)
            ready.write_text(inputs)
    return str(folder / "bin" / "ais_bench")


def config(settings: Settings, data: LocalData, target: Target) -> str:
    """The configuration, which extends AISBench's own for this model API and data set."""
    where = urlsplit(target.url)
    secure = where.scheme == "https"
    model = {
        **settings.model["settings"],
        "model": target.model,
        "host_ip": where.hostname,
        "host_port": where.port or (443 if secure else 80),
        "max_out_len": target.max_out_len,
        "batch_size": target.batch_size,
        **({"enable_ssl": True} if secure else {}),
    }
    dataset = data.dataset
    named = f" if one['abbr'] in {data.abbrs!r}"
    # Imports of the file do not exist yet while it is read, hence __import__.
    key = f"models[0]['api_key'] = __import__('os').environ[{KEY!r}]"
    lines = [
        "from mmengine.config import read_base",
        "with read_base():",
        "    from ais_bench.benchmark.configs.summarizers.example import summarizer",
        f"    from {settings.model['config']} import models as known",
        f"    from {dataset.config} import {dataset.list} as parts",
        f"models = [dict(known[0], **{model!r})]",
        *([key] if target.key else []),
        f"datasets = [dict(one, path={str(data.directory)!r}) for one in parts{named}]",
    ]
    return "\n".join(lines) + "\n"


def run(path: str, settings: Settings, data: LocalData, target: Target, work: Path) -> list[Score]:
    """Run AISBench in the directory `work` and read its scores. Raises UserError: 69 or 70."""
    (work / CONFIG).write_text(config(settings, data, target), encoding="utf-8")
    environ = {**os.environ, "TERM": "dumb", **({KEY: target.key} if target.key else {})}
    workers = max(1, min(8, int(0.8 * (os.cpu_count() or 1))))  # AISBench refuses more
    argv = [
        *(path, str(work / CONFIG), "--mode", "all", "--work-dir", str(work)),
        *("--merge-ds", "--dump-eval-details", "--max-num-workers", str(workers)),
    ]
    try:
        external_program.run(argv, environ, work)
    finally:
        if target.key:  # AISBench writes its configuration to files, with the key
            for copies in (work / "tmp", *work.glob("*/configs")):
                shutil.rmtree(copies, ignore_errors=True)
    return scores(work, settings.model["abbr"], data.abbrs)


def scores(work: Path, model: str, parts: Sequence[str]) -> list[Score]:
    """Read the scores. Raises UserError (70) if a part has none."""
    runs = sorted(work.glob(f"*/results/{model}"))
    found = []
    for part in parts:
        result = _read(runs[-1] / f"{part}.json") if runs else None
        if not isinstance(result, dict) or not isinstance(result.get("accuracy"), (int, float)):
            raise user_error(
                "AISBench", f"wrote no score of {part}", f"see its logs: {work}", EX_SOFTWARE
            )
        answers = runs[-1].parents[1] / "predictions" / model / f"{part}.jsonl"
        rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        failed = sum(not row.get("success", True) for row in rows)
        found.append(Score(part, float(result["accuracy"]), len(rows), failed))
    return found


def find_program(path: str) -> str:
    """The absolute path of an installed `ais_bench`. Raises UserError (69)."""
    found = shutil.which(path)
    if not found:
        raise user_error(
            "--ais-bench", f"{path} is not a program", "omit the option", EX_UNAVAILABLE
        )
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def total(found: Sequence[Score]) -> Mapping[str, Any]:
    """The score over all questions of all parts."""
    questions = sum(one.questions for one in found)
    right = sum(one.accuracy * one.questions for one in found)
    return {
        "accuracy": round(right / questions, 4) if questions else 0.0,
        "questions": questions,
        "failed": sum(one.failed for one in found),
    }
