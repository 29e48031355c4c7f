"""Results beside the figures of upstream's tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrypoints.inputs import baselines, recipes
from validation.endpoint import (
    accuracy,
    ais_bench,
    benchmark_report,
    benchmarks,
    datasets,
    upstream_figures,
)
from validation.endpoint.ais_bench import Score, Target
from validation.endpoint.benchmark_results import Result
from validation.endpoint.client import Answer, Endpoint
from validation.endpoint.datasets import LocalData

PD = "qwen3-235b-a22b-w8a8/pd-dp32-6k-a3"
KNOWN = benchmarks.load()
CASE = KNOWN.case("serve", PD)
ROW = (
    "(QWEN3_235B_PD_3_5K_1_5k: output 3583.87 token/s of GSM8K-in3500-bs8000-qwen3, 760 requests,"
    " 190 at once, at most 1500 tokens out; vllm-ascend v0.23.0.post1: tests/e2e/weekly/multi_node/"
    "external_dp/config/QWEN3_235B_PD_3_5K_1_5k.yaml:205)"
)


def run(output: float = 2186.16, recipe: str = PD, vllm: str = "0.23.0+empty") -> Result:
    values = {**dict.fromkeys(CASE.kind.metrics, 1.0), "output_throughput": output}
    return Result(CASE, "2026-11-29T10:00:00", recipe, vllm, 1.0, values, 760, 760)


def test_the_case_is_upstream_s_load() -> None:
    (figure,) = baselines.of(recipes.load(PD))
    flags = KNOWN.flags(CASE, "0.23.0")
    assert figure.load == {
        "num_prompts": flags["num-prompts"],
        "batch_size": flags["max-concurrency"],
        "request_rate": 0,
        "max_out_len": flags["random-output-len"],
    }
    assert "request-rate" not in flags
    assert f"in{flags['random-input-len']}" in figure.dataset


def test_a_share_of_upstream_s_throughput() -> None:
    below = "61% of upstream's weekly figure, below its threshold of 97% "
    assert list(benchmark_report.notes(run(), [], KNOWN)) == [below + ROW]
    above = "98% of upstream's weekly figure "
    assert list(benchmark_report.notes(run(3515), [], KNOWN)) == [above + ROW]
    (data,) = benchmark_report.benchmark_data(run(), [], {})["upstream"]
    assert (data["value"], round(data["ratio"], 2), data["release"]) == (
        2186.16,
        0.61,
        "v0.23.0.post1",
    )
    assert json.dumps(data)


@pytest.mark.parametrize(
    "other",
    [
        run(vllm="0.18.0"),
        run(vllm="from a branch"),
        run(recipe="qwen3-235b-a22b-w8a8/throughput-a3"),
        run(recipe=f"{PD} with changes"),
        replace(run(), scale=0.1),
        replace(run(), values={"avg_latency": 1.0}),
    ],
)
def test_another_configuration_has_no_figure(other: Result) -> None:
    assert upstream_figures.of_benchmark(other) == []


def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **changes: Any) -> tuple[Any, str]:
    given: dict[str, Any] = {
        "recipe": "qwen3-235b-a22b-w8a8/pd-dp32-a3",
        "vllm": "0.23.0",
        "score": 96.0,
    }
    given |= changes
    known = datasets.Settings.load().dataset(given.get("dataset", "gsm8k"))
    data = LocalData(known, tmp_path, (known.name,), given.get("questions", known.questions))
    scores = [Score(known.name, given["score"], known.questions, 0)]
    monkeypatch.setattr(ais_bench, "run", lambda *_: scores)
    body = {"version": given["vllm"]} if given["vllm"] else None
    answer = Answer(200 if body else 404, "application/json", body, "")
    monkeypatch.setattr(Endpoint, "get", lambda *_: answer)
    target = Target("http://10.0.0.1:8000", "qwen3", 8, 1)
    settings = datasets.Settings.load()
    made = accuracy.measure(settings, data, target, "ais_bench", tmp_path, given["recipe"])
    return made, "\n".join(accuracy.report_lines(made, data))


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (96.0, "-0.74 points from upstream's weekly figure, within its threshold (QWEN3_235B_PD:"),
        (98.0, "+1.26 points from upstream's weekly figure, not within its threshold (QWEN3_235B"),
    ],
)
def test_points_from_upstream_s_accuracy(
    score: float, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, text = record(monkeypatch, tmp_path, score=score)
    assert said in text
    assert "accuracy 96.74 ± 1 % of gsm8k" in text
    assert [one["baseline"] for one in made["upstream"]] == [96.74]
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"vllm": "0.18.0"},
        {"vllm": ""},
        {"recipe": ""},
        {"recipe": "qwen3-235b-a22b-w8a8/nightly-a3"},
        {"dataset": "ceval"},
        {"questions": 8},
    ],
)
def test_another_score_has_no_figure(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, text = record(monkeypatch, tmp_path, **changes)
    assert made["upstream"] == []
    assert "upstream" not in text
