"""Benchmarks: the commands of each release, results as vLLM writes them, and comparisons."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import html5lib
import pytest

from common.errors import UserError
from entrypoints.inputs import recipes
from validation.endpoint import (
    bench,
    benchmark_html,
    benchmark_report,
    benchmark_results,
    benchmarks,
    external_program,
    run_records,
)
from validation.endpoint.bench import Vllm, plan_run
from validation.endpoint.benchmark_results import Result
from validation.endpoint.client import Answer, Endpoint

RECORDED = Path(__file__).parent / "recorded"
KNOWN = benchmarks.load()
W8A8 = "qwen3-235b-a22b-w8a8"
URL = "http://10.0.0.9:12347"
LOCAL = Vllm(path="vllm")

# (recipe, case, vLLM) → the command that the reference gives, in the words of that release.
COMMANDS = {
    (f"{W8A8}/throughput-a3", "throughput-a3", "0.13.0"): """
        vllm bench serve --model qwen3 --tokenizer vllm-ascend/Qwen3-235B-A22B-w8a8
        --base-url http://10.0.0.9:12347 --dataset-name random --ready-check-timeout-sec 60
        --ignore-eos --random-input-len 3584 --random-output-len 1536 --num-prompts 800
        --max-concurrency 160 --request-rate 24
        --save-result --result-dir /r --result-filename result.json""",
    (f"{W8A8}/pd-3node-a3", "pd-3node-a3", "0.18.0"): """
        vllm bench serve --model qwen3 --tokenizer vllm-ascend/Qwen3-235B-A22B-w8a8
        --base-url http://10.0.0.9:12347 --dataset-name random --ready-check-timeout-sec 60
        --ignore-eos --random-input-len 3584 --random-output-len 1536 --num-prompts 2880
        --max-concurrency 576 --request-rate 8 --temperature 0
        --save-result --result-dir /r --result-filename result.json""",
    (f"{W8A8}/single-128k", "plain", "0.11.0"): """
        vllm bench serve --model qwen3 --tokenizer vllm-ascend/Qwen3-235B-A22B-w8a8
        --base-url http://10.0.0.9:12347 --dataset-name random --ready-check-timeout-sec 60
        --random-input-len 200 --num-prompts 200 --request-rate 1 --ignore-eos
        --save-result --result-dir /r --result-filename result.json""",
    (f"{W8A8}/single-128k", "plain", "0.13.0"): """
        vllm bench serve --model qwen3 --tokenizer vllm-ascend/Qwen3-235B-A22B-w8a8
        --base-url http://10.0.0.9:12347 --dataset-name random --ready-check-timeout-sec 60
        --random-input-len 200 --num-prompts 200 --request-rate 1
        --save-result --result-dir /r --result-filename result.json""",
}  # fmt: skip
OFFLINE = {
    ("latency", "0.13.0"): """
        vllm bench latency --model M --input-len 32 --output-len 128 --batch-size 8 --num-iters 30
        --output-json /r/result.json --tensor-parallel-size 8""",
    ("throughput", "0.13.0"): """
        vllm bench throughput --model M --dataset-name random --input-len 200 --output-len 128
        --num-prompts 200 --output-json /r/result.json --tensor-parallel-size 8""",
    ("throughput", "0.23.0"): """
        vllm bench throughput --model M --dataset-name random --random-input-len 200
        --random-output-len 128 --num-prompts 200 --output-json /r/result.json
        --tensor-parallel-size 8""",
}  # fmt: skip


def run_of(recipe: str, case: str = "", scale: float = 1, tokenizer: str = "") -> bench.Run:
    chosen = bench.load_recipe(recipe, bench.SERVE)
    one = KNOWN.case(bench.SERVE, chosen.name, case)
    return plan_run(one, URL, chosen, "", tokenizer, scale, ())


def offline(kind: str = "latency", target: str = "M", model: str = "") -> bench.Run:
    more = ["--tensor-parallel-size", "8"]
    return plan_run(KNOWN.case(kind, ""), target, bench.load_recipe("", kind), model, "", 1, more)


@pytest.mark.parametrize(("recipe", "case", "vllm"), COMMANDS)
def test_the_command_of_a_case(recipe: str, case: str, vllm: str) -> None:
    run = run_of(recipe)
    assert run.case.name == case
    words = LOCAL.argv(run.words(KNOWN, vllm, "/r"), Path("/r"))
    assert words == shlex.split(COMMANDS[recipe, case, vllm])


@pytest.mark.parametrize(("kind", "vllm"), OFFLINE)
def test_the_command_without_a_server(kind: str, vllm: str) -> None:
    run = offline(kind)
    assert ["vllm", *run.words(KNOWN, vllm, "/r")] == shlex.split(OFFLINE[kind, vllm])


def test_every_recipe_has_a_case_of_every_kind() -> None:
    for name in recipes.names():
        for kind in KNOWN.kinds:
            assert KNOWN.case(kind, name).belongs(name)


def test_patterns_of_recipes_name_recipes() -> None:
    named = {pattern for case in KNOWN.cases.values() for pattern in case.recipes} - {"*"}
    assert named <= set(recipes.names())


def test_an_image_runs_on_the_host_s_network_and_sees_what_it_reads(tmp_path: Path) -> None:
    run = run_of(f"{W8A8}/single-128k", tokenizer=str(tmp_path))
    vllm = Vllm(image="IMAGE", options=("--device", "/dev/davinci0"))
    directory = vllm.directory(Path("/made"))
    words = vllm.argv(["bench"], Path("/made"), [*run.env, bench.KEY], run.directories)
    assert directory == "/results"
    assert words == [
        *("docker", "run", "--rm", "--init", "--network", "host", "-e", "OPENAI_API_KEY"),
        *("--mount", "type=bind,source=/made,target=/results"),
        *("--mount", f"type=bind,source={tmp_path},target={tmp_path},readonly"),
        *("--device", "/dev/davinci0", "IMAGE", "vllm", "bench"),
    ]


def test_a_tokenizer_by_name_is_found_the_recipe_s_way() -> None:
    assert run_of(f"{W8A8}/single-128k").env == {"VLLM_USE_MODELSCOPE": "true"}


def test_only_a_run_without_a_server_takes_its_model_from_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qwen3").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (run_of(f"{W8A8}/single-128k").model, run_of(f"{W8A8}/single-128k").directories) == (
        "qwen3",
        [],
    )
    alone = offline(target="qwen3")
    assert (alone.model, alone.directories) == (str(tmp_path / "qwen3"), [tmp_path / "qwen3"])


def test_a_small_run_keeps_lengths_and_rate() -> None:
    case = KNOWN.cases["throughput-a3"]
    small, full = KNOWN.flags(case, "0.13.0", 0.01), KNOWN.flags(case, "0.13.0")
    assert {name: small[name] for name in small if small[name] != full[name]} == {
        "num-prompts": 8,
        "max-concurrency": 2,
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: KNOWN.case("server", ""), "did you mean serve?"),
        (lambda: KNOWN.case("serve", "", "throughput"), "not a case of serve (did you mean"),
        (lambda: run_of(f"{W8A8}/single-128k", scale=2), "2 is not above 0 and at most 1"),
        (lambda: bench.load_recipe("", "serve"), "--recipe: is missing"),
        (lambda: bench.load_recipe("single-128k", "serve"), "is not a recipe (did you mean "),
        (
            lambda: bench.split_words("--args", "--label 'x"),
            "--args: --label 'x: No closing quotation",
        ),
        (lambda: offline(model="m"), "--model: is not for latency"),
        (lambda: bench.select_vllm("", "", ()), "are both missing"),
        (lambda: bench.select_vllm("IMAGE", "vllm", ()), "exclude each other"),
        (lambda: external_program.run(["/no/such/vllm"], {}), "No such file"),
        (lambda: external_program.version([sys.executable, "-c", "print('hi')"], {}), "no version"),
        (lambda: external_program.run([sys.executable, "-c", "exit(3)"], {}), "ended with code 3"),
    ],
)
def test_what_cannot_be_is_said(wrong: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        wrong()
    assert said in str(caught.value)


@pytest.mark.parametrize("said", ["0.13.0+empty", "0.11.0rc2", "0.32.0+cpu"])
def test_the_version_is_the_last_line(said: str) -> None:
    printed = f"print('INFO 11-25 plugin 1.2 loaded\\n{said}')"
    found = external_program.version([sys.executable, "-c", printed], {})
    assert found == said.partition("+")[0]


# ---- a run ---------------------------------------------------------------------------------------

# A `vllm` that leaves a recorded result where it is told to, or ends as it is told to.
PROGRAM = """#!{python}
import os, shutil, sys
if "--version" in sys.argv:
    print("0.13.0+empty")
elif "FAIL" in sys.argv:
    sys.exit(1)
elif "NOTHING" not in sys.argv:
    assert os.environ["OPENAI_API_KEY"] == "sk-secret"
    to = sys.argv[sys.argv.index("--result-dir") + 1]
    shutil.copy({recorded!r}, to + "/result.json")
"""


@pytest.fixture
def vllm(tmp_path: Path) -> Vllm:
    path = tmp_path / "vllm"
    recorded = str(RECORDED / "serve-0.32.0.json")
    path.write_text(PROGRAM.format(python=sys.executable, recorded=recorded))
    path.chmod(0o755)
    return Vllm(path=str(path))


def made(vllm: Vllm, *more: str) -> dict[str, Any]:
    chosen = bench.load_recipe(f"{W8A8}/throughput-a3", bench.SERVE)
    case = KNOWN.case(bench.SERVE, chosen.name)
    run = plan_run(case, f"{URL}/v1/", chosen, "", "", 0.01, more)
    return bench.run_benchmark(run, vllm, KNOWN, key="sk-secret")


def test_a_run_is_recorded_with_its_command_and_without_its_key(vllm: Vllm) -> None:
    record = made(vllm, "--seed", "7")
    assert record["argv"][:3] == [vllm.path, "bench", "serve"]
    assert record["argv"][-2:] == ["--seed", "7"]
    assert record["target"] == URL
    assert "sk-secret" not in json.dumps(record)
    found = benchmark_results.result(record, KNOWN, "x.json")
    assert (found.vllm, found.scale, found.failed) == ("0.13.0", 0.01, 0)


@pytest.mark.parametrize(
    ("more", "said"), [("FAIL", "ended with code 1"), ("NOTHING", "wrote no result")]
)
def test_a_run_that_fails_is_no_result(vllm: Vllm, more: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        made(vllm, more)
    assert caught.value.exit_code == 70


class Listing(Endpoint):
    """An endpoint whose list of models is answered with `status`."""

    status = 200

    def get(self, path: str) -> Answer:
        body = {"data": [{"id": "qwen3"}]} if self.status == 200 else None
        return Answer(self.status, "application/json", body, "")


@pytest.mark.parametrize(("status", "asked"), [(200, "qwen3"), (200, ""), (404, "qwen3")])
def test_the_model_that_is_served(status: int, asked: str) -> None:
    endpoint = Listing(URL)
    endpoint.status = status
    assert endpoint.served_model(asked) == "qwen3"


@pytest.mark.parametrize(
    ("status", "asked", "code", "said"),
    [
        (200, "qwen4", 65, "--model: qwen4 is not served there (did you mean qwen3?)"),
        (401, "qwen3", 69, "answers 401 (is the key the server's?)"),
        (404, "", 69, "answers 404 (is it ready?)"),
    ],
)
def test_a_model_that_is_not_served(status: int, asked: str, code: int, said: str) -> None:
    endpoint = Listing(URL)
    endpoint.status = status
    with pytest.raises(UserError) as caught:
        endpoint.served_model(asked)
    assert said in str(caught.value)
    assert caught.value.exit_code == code


# ---- results -------------------------------------------------------------------------------------


def record(**changes: Any) -> dict[str, Any]:
    """A whole run of the throughput case, with a real result's shape."""
    raw = json.loads((RECORDED / "serve-0.32.0.json").read_text())
    made = {
        "date": "2026-11-25T10:00:00Z",
        "case": "throughput-a3",
        "recipe": f"{W8A8}/throughput-a3",
        "target": URL,
        "scale": 1,
        "vllm": "0.13.0",
        "result": raw,
    }
    return {**made, **changes}


def result_of(**changes: Any) -> Result:
    return benchmark_results.result(record(**changes), KNOWN, "x.json")


def test_a_result_of_vllm_0_32() -> None:
    found = result_of()
    assert round(found.values["mean_ttft_ms"], 2) == 2794.42
    assert round(found.values["mean_tpot_ms"], 2) == 40.76
    assert round(found.values["output_throughput"], 2) == 46.99
    assert (found.requests, found.completed, found.failed) == (8, 8, 0)


def test_a_result_of_vllm_0_13_as_it_was_kept() -> None:
    found = benchmark_results.read(RECORDED / "serve-0.13.0.json", KNOWN)
    assert (found.vllm, found.scale, found.case.name) == ("0.13.0", 0.05, "plain")
    assert round(found.values["mean_ttft_ms"], 2) == 17.63
    assert found.failed == 0


def test_requests_without_an_answer_are_counted_where_vllm_does_not() -> None:
    raw = json.loads((RECORDED / "serve-0.32.0.json").read_text())
    raw.pop("failed")  # vLLM 0.11 does not tell
    assert result_of(result={**raw, "completed": 5}).failed == 3


def test_what_is_no_result_is_refused_with_all_that_is_wrong() -> None:
    raw = json.loads((RECORDED / "serve-0.32.0.json").read_text())
    raw.pop("mean_itl_ms")
    with pytest.raises(UserError) as caught:
        benchmark_results.result(record(result=raw, scale="1", date=None), KNOWN, "x.json")
    assert caught.value.exit_code == 65
    missing = [str(one) for one in caught.value.findings]
    assert missing == ["x.json: has no mean_itl_ms", "x.json: has no date", "x.json: has no scale"]


def test_results_are_kept_and_never_overwritten(tmp_path: Path) -> None:
    paths = [run_records.write(tmp_path, record(), f"{W8A8}/throughput-a3", "c") for _ in range(2)]
    first = f"20261125T100000Z-{W8A8}-throughput-a3-c"
    assert [path.name for path in paths] == [f"{first}.json", f"{first}-2.json"]
    (tmp_path / "accuracy.json").write_text('{"dataset": "ceval"}')
    assert len(benchmark_results.read_all(tmp_path, KNOWN)) == 2


def test_a_run_is_compared_with_others_of_its_case_and_with_the_reference() -> None:
    run = result_of()
    plain = benchmark_results.read(RECORDED / "serve-0.13.0.json", KNOWN)
    rows = benchmark_results.compare(run, [plain, result_of(date="2026-11-24T09:08:07Z")])
    assert [row.label for row in rows] == [
        "this run",
        f"2026-11-24 09:08, {W8A8}/throughput-a3, vLLM 0.13.0",
        "reference",
    ]
    assert set(rows[1].ratios.values()) == {1.0}
    assert round(rows[2].ratios["mean_ttft_ms"], 4) == round(2794.4221 / 4717.45, 4)
    assert "mean_itl_ms" not in rows[2].ratios


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": 0.01}, "scaled down to 0.01; not comparable with the reference"),
        ({"recipe": f"{W8A8}/single-128k"}, f"the reference is for {W8A8}/throughput-a3"),
    ],
)
def test_no_reference_for_another_run(changes: dict[str, Any], said: str) -> None:
    run = result_of(**changes)
    rows = benchmark_results.compare(run, [])
    assert len(rows) == 1
    text = benchmark_report.benchmark_text(run, rows, KNOWN)
    assert said in text
    assert "4717" not in text + benchmark_html.render([run], KNOWN)


def test_a_difference_within_the_reference_is_reported() -> None:
    run = result_of()
    text = benchmark_report.benchmark_text(run, benchmark_results.compare(run, []), KNOWN)
    said = "table says num-prompts 720, max-concurrency 144, but its command num-prompts 800"
    assert said in text
    assert said in benchmark_html.render([run], KNOWN)
    assert KNOWN.cases["pd-3node-a3"].reference_difference == ""


def test_files_to_compare_with_are_all_looked_at(tmp_path: Path) -> None:
    case = KNOWN.cases["throughput-a3"]
    good = run_records.write(tmp_path, record(), "good")
    small = run_records.write(tmp_path, record(scale=0.01), "small")
    (broken := tmp_path / "broken.json").write_text("{")
    other = RECORDED / "serve-0.13.0.json"
    assert len(benchmark_results.read_comparable([str(good)], case, 1, KNOWN)) == 1
    paths = [str(one) for one in (good, small, broken, other, tmp_path / "none.json")]
    with pytest.raises(UserError) as caught:
        benchmark_results.read_comparable(paths, case, 1, KNOWN)
    assert caught.value.exit_code == 65
    said = [one.message.partition(":")[0] for one in caught.value.findings]
    assert said == [
        "is at scale 0.01, not 1",
        "is not JSON",
        "is of case plain, not throughput-a3",
        "cannot be read",
    ]


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    small = benchmark_results.read(RECORDED / "serve-0.13.0.json", KNOWN)
    runs = [result_of(), result_of(date="2026-11-24T09:08:07Z", vllm="<0.15>"), small]
    text = benchmark_html.render(runs, KNOWN)
    html5lib.HTMLParser(strict=True).parse(text)
    assert "<script" not in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "&lt;0.15&gt;" in text
    assert text.count("<rect") == 9
    assert text.count("<line") == 6


def test_bars_and_the_reference_are_on_one_scale() -> None:
    raw = json.loads((RECORDED / "serve-0.32.0.json").read_text())
    double = {**raw, "mean_ttft_ms": 4717.45 * 2}
    (section,) = benchmark_html.sections([result_of(result=double), result_of()], KNOWN)
    chart = section.charts[0]
    assert chart.bars[0].width == benchmark_html.MAX_WIDTH
    assert chart.mark == pytest.approx(benchmark_html.MAX_WIDTH / 2)
    assert chart.bars[1].width == pytest.approx(
        benchmark_html.MAX_WIDTH * raw["mean_ttft_ms"] / 4717.45 / 2
    )
