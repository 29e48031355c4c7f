"""Accuracy: data that is looked at, AISBench's configuration, and its scores as it writes them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import UserError
from validation.endpoint import accuracy, ais_bench, datasets
from validation.endpoint.ais_bench import Score, Target
from validation.endpoint.client import Answer, Endpoint
from validation.endpoint.datasets import LocalData, Settings, check_data

SETTINGS = Settings.load()
CEVAL, GSM8K = SETTINGS.datasets["ceval"], SETTINGS.datasets["gsm8k"]
ASKED = Target("http://10.0.0.1:8000", "qwen3", 32768, 32)


Listing = Callable[[int | None], None]


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> Listing:
    """Every endpoint lists one model with this context."""

    def lists(longest: int | None) -> None:
        body = {"data": [{"id": "qwen3", "max_model_len": longest}]}
        answer = Answer(200, "application/json", body, "")
        monkeypatch.setattr(Endpoint, "get", lambda self, path: answer)

    return lists


def ceval(directory: Path, *subjects: str) -> Path:
    for subject in subjects:
        for split in ("dev", "val", "test"):
            path = directory / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="", encoding="utf-8") as file:
                answered = ["answer"] if split != "test" else []
                rows = csv.writer(file)
                rows.writerow(["id", "question", "A", "B", "C", "D", *answered])
                rows.writerows(
                    [n, f"一加{n}", 1, 2, 3, 4, *"ABC"[n : n + len(answered)]] for n in range(3)
                )
    return directory


def gsm8k(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    row = json.dumps({"question": "1 + 1?", "answer": "two\n#### 2"})
    for split in ("train", "test"):
        (directory / f"{split}.jsonl").write_text(f"{row}\n{row}\n")
    return directory


def test_data_of_some_subjects(tmp_path: Path) -> None:
    found = check_data(CEVAL, ceval(tmp_path, "logic", "law"))
    assert found.parts == ("law", "logic")
    assert found.abbrs == ["ceval-law", "ceval-logic"]
    assert (found.questions, found.complete) == (6, False)


def test_data_of_one_part(tmp_path: Path) -> None:
    found = check_data(GSM8K, gsm8k(tmp_path))
    assert (found.abbrs, found.questions) == (["gsm8k"], 2)


def test_all_that_is_wrong_with_data_is_said_at_once(tmp_path: Path) -> None:
    ceval(tmp_path, "logic", "law", "art")
    (tmp_path / "dev" / "art_dev.csv").unlink()
    (tmp_path / "val" / "law_val.csv").write_text("id,question,A,B,C,D,answer\n")
    (tmp_path / "test" / "logic_test.csv").write_bytes(b"id,question,A,B\n0,1,\xff\n")
    (tmp_path / "val" / "logic_val.csv").write_text("id,question,A,B,answer\n0,1,2,3,A\n")
    with pytest.raises(UserError) as caught:
        check_data(CEVAL, tmp_path)
    assert caught.value.exit_code == 65
    said = {Path(one.where).name: one.message for one in caught.value.findings}
    assert said == {
        "art_dev.csv": "is missing",
        "law_val.csv": "has no questions",
        "logic_val.csv": "question 1 has no C, D",
        "logic_test.csv": "is not UTF-8",
    }


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    (gsm8k(tmp_path) / "train.jsonl").write_text("{'question': 1}\n")
    with pytest.raises(UserError, match="is not JSON Lines"):
        check_data(GSM8K, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        (lambda path: check_data(CEVAL, path), 65, "has no val/NAME_val.csv"),
        (lambda path: check_data(CEVAL, path / "none"), 65, "give the directory of ceval-exam.zip"),
        (lambda path: SETTINGS.dataset("cevel"), 64, "did you mean ceval?"),
        (lambda path: SETTINGS.dataset(""), 64, "--dataset: is missing"),
        (lambda path: ais_bench.find_program(str(path)), 69, "is not a program"),
        (lambda path: ais_bench.scores(path, "m", ["ceval-law"]), 70, "no score of ceval-law"),
        (lambda path: accuracy.check_target("http://h:1/x", "m", "", 1, 1), 64, "has a path"),
        (lambda path: accuracy.check_target("http://h:1", "m", "", 0, 1), 64, "--max-out-len: 0"),
    ],
)
def test_what_cannot_be_is_said(
    wrong: Callable[[Path], object], code: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        wrong(tmp_path)
    assert said in str(caught.value)
    assert caught.value.exit_code == code


@pytest.mark.parametrize("longest", [32769, None])
def test_answers_that_the_server_can_give(longest: int | None, listing: Listing) -> None:
    listing(longest)
    assert accuracy.check_target("http://h:1/v1", "", "", 32768, 4).model == "qwen3"


def test_answers_longer_than_the_server_s_context(listing: Listing) -> None:
    listing(32768)
    with pytest.raises(UserError, match="limit is 32768 tokens"):
        accuracy.check_target("http://h:1", "qwen3", "", 32768, 4)


# ---- AISBench ------------------------------------------------------------------------------------


def test_the_configuration_is_upstream_s(tmp_path: Path) -> None:
    data = LocalData(CEVAL, Path("/data/formal_ceval"), ("law",), 3)
    assert ais_bench.config(SETTINGS, data, ASKED).splitlines() == [
        "from mmengine.config import read_base",
        "with read_base():",
        "    from ais_bench.benchmark.configs.summarizers.example import summarizer",
        "    from ais_bench.benchmark.configs.models.vllm_api.vllm_api_general_chat"
        " import models as known",
        "    from ais_bench.benchmark.configs.datasets.ceval.ceval_gen_0_shot_cot_chat_prompt"
        " import ceval_datasets as parts",
        "models = [dict(known[0], **{'retry': 2, 'generation_kwargs': {'temperature': 0.6,"
        " 'top_k': 10, 'top_p': 0.95, 'repetition_penalty': 1.03}, 'model': 'qwen3',"
        " 'host_ip': '10.0.0.1', 'host_port': 8000, 'max_out_len': 32768, 'batch_size': 32})]",
        "datasets = [dict(one, path='/data/formal_ceval') for one in parts"
        " if one['abbr'] in ['ceval-law']]",
    ]


def test_a_key_is_not_in_the_configuration() -> None:
    data = LocalData(GSM8K, Path("/data/gsm8k"), ("gsm8k",), 2)
    asked = Target("https://api.example.com", "qwen3", 8, 1, key="sk-secret")
    text = ais_bench.config(SETTINGS, data, asked)
    assert "sk-secret" not in text
    assert "models[0]['api_key'] = __import__('os').environ['AIS_BENCH_KEY']" in text
    assert "'host_port': 443, 'max_out_len': 8, 'batch_size': 1, 'enable_ssl': True" in text


def outputs(work: Path, accuracies: dict[str, float]) -> Path:
    """The files of AISBench 3.1, as far as they are read."""
    made = work / "20261125_235242"
    for name, value in accuracies.items():
        result = made / "results" / "vllm-api-general-chat" / f"{name}.json"
        answers = made / "predictions" / "vllm-api-general-chat" / f"{name}.jsonl"
        for path in (result, answers):
            path.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps({"accuracy": value, "details": {}}))
        rows = [{"id": n, "success": n != 3, "gold": "A"} for n in range(4)]
        answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return work


def test_the_scores_of_every_part(tmp_path: Path) -> None:
    outputs(tmp_path, {"ceval-law": 50.0, "ceval-logic": 25.0})
    found = ais_bench.scores(tmp_path, "vllm-api-general-chat", ["ceval-law", "ceval-logic"])
    assert found == [Score("ceval-law", 50.0, 4, 1), Score("ceval-logic", 25.0, 4, 1)]


def test_the_total_is_over_questions_and_not_over_parts() -> None:
    found = [Score("a", 100.0, 1, 0), Score("b", 0.0, 3, 2)]
    assert ais_bench.total(found) == {"accuracy": 25.0, "questions": 4, "failed": 2}


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        (1346, "reference: 91.16 of Qwen3-235B-A22B-w8a8, -16.16 here"),
        (8, "the whole set has 1346 questions: not comparable with the reference"),
    ],
)
def test_only_the_whole_set_is_compared(
    questions: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = LocalData(CEVAL, tmp_path, ("law",), questions)
    scores = [Score("ceval-law", 75.0, questions, 0)]
    monkeypatch.setattr(ais_bench, "run", lambda *given: scores)
    made = accuracy.measure(SETTINGS, data, ASKED, "ais_bench", tmp_path)
    text = "\n".join(accuracy.report_lines(made, data))
    assert said in text
    assert f"75.00 % of {questions} questions correct" in text
    assert json.loads(json.dumps(made)) == made


def test_every_package_of_the_lock_has_hashes() -> None:
    lines = ais_bench.LOCK.read_text().splitlines()
    packages = [n for n, line in enumerate(lines) if not line.startswith(" ")]
    assert len(packages) > 100
    assert all("--hash=sha256:" in lines[n + 1] for n in packages)
    assert not any(lines[n].startswith(("torch", "nvidia", "triton")) for n in packages)


def test_settings_name_what_they_are_for() -> None:
    for one in SETTINGS.datasets.values():
        assert (datasets.NAME in one.abbr) == (datasets.NAME in one.files[0])
