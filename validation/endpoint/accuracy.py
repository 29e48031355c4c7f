"""Measure accuracy: how many questions of a data set an endpoint answers correctly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import EX_USAGE, user_error
from validation.endpoint import ais_bench, run_records, upstream_figures
from validation.endpoint.ais_bench import Target
from validation.endpoint.client import Endpoint
from validation.endpoint.datasets import LocalData, Settings


def check_target(url: str, model: str, key: str, max_out_len: int, batch_size: int) -> Target:
    """Check the options against the running endpoint. Raises UserError: 64, 65 or 69."""
    for option, number in (("--max-out-len", max_out_len), ("--batch-size", batch_size)):
        if number < 1:
            raise user_error(option, f"{number} is below 1", exit_code=EX_USAGE)
    endpoint = Endpoint(url, key)
    if endpoint.url.count("/") > 2:
        raise user_error("URL", f"'{url}' has a path", "AISBench asks http://HOST:PORT/v1 only")
    name = endpoint.served_model(model)
    longest = _context_length(endpoint, name)
    if longest and max_out_len >= longest:
        what = f"{max_out_len} leaves no room for questions: the server's limit is {longest} tokens"
        raise user_error("--max-out-len", what, "reduce it, or raise the server's --max-model-len")
    return Target(endpoint.url, name, max_out_len, batch_size, key)


def _context_length(endpoint: Endpoint, model: str) -> int | None:
    """The context length of a model in tokens, if the endpoint states it."""
    body = endpoint.get("/v1/models").body
    listed = body.get("data", []) if isinstance(body, dict) else []
    mine = [one for one in listed if isinstance(one, dict) and one.get("id") == model]
    longest = mine[0].get("max_model_len") if mine else None
    return longest if isinstance(longest, int) else None


def vllm_version(endpoint: Endpoint) -> str:
    """The version of vLLM, if the endpoint states it."""
    body = endpoint.get("/version").body
    return str(body.get("version", "")) if isinstance(body, dict) else ""


def measure(
    settings: Settings,
    data: LocalData,
    target: Target,
    path: str,
    work: Path,
    recipe: str = "",
) -> dict[str, Any]:
    """Run AISBench and return the run record. `recipe`: what is served. Raises UserError."""
    date = run_records.utc_now()
    scores = ais_bench.run(path, settings, data, target, work)
    reference = data.dataset.reference
    total = ais_bench.total(scores)
    comparable = reference is not None and data.complete
    record = {
        "date": date,
        "recipe": recipe,
        "vllm": vllm_version(Endpoint(target.url, target.key)) if recipe else "",
        "dataset": data.dataset.name,
        "target": target.url,
        "model": target.model,
        "settings": {
            **settings.model["settings"],
            "max_out_len": target.max_out_len,
            "batch_size": target.batch_size,
        },
        **total,
        "whole": data.complete,
        "reference": asdict(reference) if comparable and reference else None,
        "parts": [asdict(one) for one in scores],
        "work": str(work),
    }
    return {**record, "upstream": [one.data for one in upstream_figures.of_accuracy(record)]}


def report_lines(record: Mapping[str, Any], data: LocalData) -> Iterator[str]:
    """The results for people."""
    for part in record["parts"]:
        yield f"{part['name']:50} {part['accuracy']:7.2f}  {part['questions']} questions"
    score = f"{record['accuracy']:.2f} % of {record['questions']} questions correct"
    yield f"{data.dataset.title}: {score}"
    if record["failed"]:
        yield f"{record['failed']} questions got no answer"
    reference = record["reference"]
    if reference:
        difference = record["accuracy"] - reference["accuracy"]
        yield (
            f"reference: {reference['accuracy']:.2f} of {reference['model']}, {difference:+.2f}"
            f" here ({reference['source']}; {reference['made_with']})"
        )
    elif not record["whole"]:
        total = data.dataset.questions
        yield f"the whole set has {total} questions: not comparable with the reference"
    for one in upstream_figures.of_accuracy(record):
        yield one.text
