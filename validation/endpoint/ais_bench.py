"""AISBench, which scores answers: its environment, its configuration, its run and its results."""

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
from images.locking.index import Wheels
from images.locking.lock import Say
from images.locking.uv import uv
from validation.endpoint import program
from validation.endpoint.datasets import Data, Settings

BUILD = WORK / "ais-bench"
LOCK = Path(__file__).parent / "ais-bench.txt"
READY = "ready"  # in an environment that is complete: what it was made from
CONFIG = "config.py"
KEY = "AIS_BENCH_KEY"


@dataclass(frozen=True)
class Asked:
    """What is asked of the endpoint."""

    url: str
    model: str
    max_out_len: int
    batch_size: int
    key: str = ""


@dataclass(frozen=True)
class Score:
    """One part of a data set: percent right, how many questions, how many without an answer."""

    name: str
    accuracy: float
    questions: int
    failed: int


def installed(settings: Settings, wheels: Wheels, say: Say, folder: Path = BUILD) -> str:
    """The program in build/ais-bench, made where it is not there yet. Raises UserError (69)."""
    made_from = hashlib.sha256(LOCK.read_bytes() + repr(settings.environment).encode()).hexdigest()
    ready, python = folder / READY, folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process at a time makes it
        if not (ready.is_file() and ready.read_text() == made_from):
            say(f"AISBench: making {folder} (a minute or two)")
            uv(
                "venv",
                "--quiet",
                "--clear",
                "--python",
                settings.environment["python"],
                str(folder),
            )
            into = ("pip", "install", "--quiet", "--python", str(python))
            torch = f"torch=={settings.environment['torch']}"
            uv(*into, "--require-hashes", "--no-deps", "-r", str(LOCK))
            uv(*into, *wheels.options(), torch)
            ready.write_text(made_from)
    return str(folder / "bin" / "ais_bench")


def config(settings: Settings, data: Data, asked: Asked) -> str:
    """The configuration, on top of AISBench's own for this model API and data set."""
    where = urlsplit(asked.url)
    secure = where.scheme == "https"
    model = {
        **settings.model["settings"],
        "model": asked.model,
        "host_ip": where.hostname,
        "host_port": where.port or (443 if secure else 80),
        "max_out_len": asked.max_out_len,
        "batch_size": asked.batch_size,
        **({"enable_ssl": True} if secure else {}),
    }
    dataset = data.dataset
    named = f" if one['abbr'] in {data.abbrs!r}"
    # What the file imports is not there yet while it is read, hence __import__.
    key = f"models[0]['api_key'] = __import__('os').environ[{KEY!r}]"
    lines = [
        "from mmengine.config import read_base",
        "with read_base():",
        "    from ais_bench.benchmark.configs.summarizers.example import summarizer",
        f"    from {settings.model['config']} import models as known",
        f"    from {dataset.config} import {dataset.list} as parts",
        f"models = [dict(known[0], **{model!r})]",
        *([key] if asked.key else []),
        f"datasets = [dict(one, path={str(data.directory)!r}) for one in parts{named}]",
    ]
    return "\n".join(lines) + "\n"


def run(path: str, settings: Settings, data: Data, asked: Asked, work: Path) -> list[Score]:
    """Run it in the directory `work` and read its scores. Raises UserError: 69 or 70."""
    (work / CONFIG).write_text(config(settings, data, asked), encoding="utf-8")
    environ = {**os.environ, "TERM": "dumb", **({KEY: asked.key} if asked.key else {})}
    workers = max(1, min(8, int(0.8 * (os.cpu_count() or 1))))  # AISBench refuses more
    argv = [
        *(path, str(work / CONFIG), "--mode", "all", "--work-dir", str(work)),
        *("--merge-ds", "--dump-eval-details", "--max-num-workers", str(workers)),
    ]
    try:
        program.run(argv, environ, work)
    finally:
        if asked.key:  # AISBench writes the whole configuration down, with the key
            for copies in (work / "tmp", *work.glob("*/configs")):
                shutil.rmtree(copies, ignore_errors=True)
    return scores(work, settings.model["abbr"], data.abbrs)


def scores(work: Path, model: str, parts: Sequence[str]) -> list[Score]:
    """What AISBench left in its directory. Raises UserError (70) when a part has no score."""
    made = sorted(work.glob(f"*/results/{model}"))
    found = []
    for part in parts:
        result = _read(made[-1] / f"{part}.json") if made else None
        if not isinstance(result, dict) or not isinstance(result.get("accuracy"), (int, float)):
            raise user_error(
                "AISBench", f"left no score of {part}", f"its logs: {work}", EX_SOFTWARE
            )
        answers = made[-1].parents[1] / "predictions" / model / f"{part}.jsonl"
        rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        failed = sum(not row.get("success", True) for row in rows)
        found.append(Score(part, float(result["accuracy"]), len(rows), failed))
    return found


def there(path: str) -> str:
    """An `ais_bench` that is installed. Raises UserError (69)."""
    found = shutil.which(path)
    if not found:
        raise user_error("--ais-bench", f"{path} is no program", "leave it out", EX_UNAVAILABLE)
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def total(found: Sequence[Score]) -> Mapping[str, Any]:
    """Over all questions of all parts."""
    questions = sum(one.questions for one in found)
    right = sum(one.accuracy * one.questions for one in found)
    return {
        "accuracy": round(right / questions, 4) if questions else 0.0,
        "questions": questions,
        "failed": sum(one.failed for one in found),
    }
