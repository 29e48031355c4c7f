"""How many questions of a data set an endpoint answers right, by AISBench."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import EX_USAGE, user_error
from validation.endpoint import ais_bench, store
from validation.endpoint.ais_bench import Asked
from validation.endpoint.bench import served
from validation.endpoint.client import Endpoint
from validation.endpoint.datasets import Data, Settings


def asked(url: str, model: str, key: str, max_out_len: int, batch_size: int) -> Asked:
    """What is asked of the endpoint, which has to be there. Raises UserError: 69, 65 or 64."""
    for option, number in (("--max-out-len", max_out_len), ("--batch-size", batch_size)):
        if number < 1:
            raise user_error(option, f"{number} is below 1", exit_code=EX_USAGE)
    endpoint = Endpoint(url, key)
    if endpoint.url.count("/") > 2:
        raise user_error("URL", f"'{url}' has a path", "AISBench asks http://HOST:PORT/v1 only")
    name = served(endpoint, model)
    longest = _longest(endpoint, name)
    if longest and max_out_len >= longest:
        what = f"{max_out_len} leaves no room for a question in {longest} tokens, the server's most"
        raise user_error(
            "--max-out-len", what, "give less, or a server with a larger --max-model-len"
        )
    return Asked(endpoint.url, name, max_out_len, batch_size, key)


def _longest(endpoint: Endpoint, model: str) -> int | None:
    """The context of a model in tokens, where the endpoint tells."""
    body = endpoint.get("/v1/models").body
    listed = body.get("data", []) if isinstance(body, dict) else []
    mine = [one for one in listed if isinstance(one, dict) and one.get("id") == model]
    longest = mine[0].get("max_model_len") if mine else None
    return longest if isinstance(longest, int) else None


def record(settings: Settings, data: Data, asked: Asked, path: str, work: Path) -> dict[str, Any]:
    """Run AISBench and return the record of the run. Raises UserError."""
    date = store.now()
    scores = ais_bench.run(path, settings, data, asked, work)
    reference = data.dataset.reference
    total = ais_bench.total(scores)
    compared = reference is not None and data.whole
    return {
        "date": date,
        "dataset": data.dataset.name,
        "target": asked.url,
        "model": asked.model,
        "settings": {
            **settings.model["settings"],
            "max_out_len": asked.max_out_len,
            "batch_size": asked.batch_size,
        },
        **total,
        "whole": data.whole,
        "reference": asdict(reference) if compared and reference else None,
        "parts": [asdict(one) for one in scores],
        "work": str(work),
    }


def text(made: Mapping[str, Any], data: Data) -> Iterator[str]:
    """What came of it, a line each."""
    for part in made["parts"]:
        yield f"{part['name']:50} {part['accuracy']:7.2f}  {part['questions']} questions"
    yield f"{data.dataset.title}: {made['accuracy']:.2f} % right of {made['questions']} questions"
    if made["failed"]:
        yield f"{made['failed']} questions got no answer"
    reference = made["reference"]
    if reference:
        difference = made["accuracy"] - reference["accuracy"]
        yield (
            f"reference: {reference['accuracy']:.2f} of {reference['model']}, {difference:+.2f}"
            f" here ({reference['source']}; {reference['made_with']})"
        )
    elif not made["whole"]:
        yield f"the whole set has {data.dataset.questions} questions: no match for the reference"
