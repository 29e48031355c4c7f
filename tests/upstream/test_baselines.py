"""The figures of upstream's nightly and weekly tests, and that each is what its source says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from upstream import baselines
from upstream.sources import Tree, tree

FILES = sorted((ROOT / "env" / "baselines").glob("*.yaml"))
FOLDER = "tests/e2e/nightly"
# In the forms of vllm-ascend v0.23.0.post1, shortened: two tests of one node that share a command,
# two nodes, and external data parallel.
SINGLE = """\
_server_cmd: &server_cmd
  - "--port"
_benchmarks: &benchmarks
  acc:
    case_type: accuracy
    dataset_path: vllm-ascend/gsm8k-lite
    max_out_len: 32768
    baseline: 95
    threshold: 10
test_cases:
  - name: "full"
    model: "org/m"
    server_cmd: *server_cmd
    benchmarks:
      <<: *benchmarks
  - name: "piecewise-A2"
    model: "org/m"
    server_cmd: *server_cmd
    benchmarks:
      <<: *benchmarks
      perf:
        case_type: performance
        dataset_path: vllm-ascend/GSM8K-in3500
        num_prompts: 8
        request_rate: 0
        baseline: 1.5
        threshold: 0.97
  - name: "none"
    server_cmd: *server_cmd
"""
NODES = """\
test_name: "two nodes"
model: "org/m"
npu_per_node: 16
deployment:
  -
    server_cmd: >
        vllm serve m
  -
    server_cmd: >
        vllm serve m --headless
benchmarks:
  perf: {case_type: performance, dataset_path: d, baseline: 1, threshold: 0.97}
  acc: {case_type: accuracy, dataset_conf: gsm8k/gsm8k_gen, baseline: 0, threshold: 3}
"""
EXTERNAL = """\
test_name: "external"
model: "org/m"
templates:
  - node_index: 0
    server_cmd_template:
      - --host
  - node_index: 1
    server_cmd_template:
      - --host
benchmarks:
  perf: {case_type: performance, dataset_path: d, baseline: 2, threshold: 0.97}
"""
SCHEDULE = "a2: {x: [{config_file_path: E.yaml}]}\na3: {x: [{config_file_path: base/E.yaml}]}\n"
BROKEN = "test_cases: [{benchmarks: *nothing}]\n"


def read(**files: str) -> list[dict[str, Any]]:
    named = {f"{FOLDER}/{name}.yaml": text for name, text in files.items()}
    named[".github/workflows/configs/nightly_config.yaml"] = SCHEDULE
    return list(baselines.configurations(Tree("vllm-ascend", "0", named)))


def test_tests_of_one_node() -> None:
    full, piecewise = read(S=SINGLE)
    figure = {"metric": "accuracy", "baseline": 95, "threshold": 10, "dataset": "gsm8k-lite"}
    figure |= {"line": 8, "max_out_len": 32768}
    assert full == {
        "configuration": "full",
        "file": f"{FOLDER}/S.yaml",
        "commands": [11],
        "platforms": [],
        "model": "org/m",
        "figures": [figure],
    }
    assert (piecewise["commands"], piecewise["platforms"]) == ([16], ["a2"])
    other = {"metric": "throughput", "baseline": 1.5, "threshold": 0.97, "dataset": "GSM8K-in3500"}
    assert piecewise["figures"] == [
        figure,
        {**other, "line": 26, "num_prompts": 8, "request_rate": 0},
    ]


def test_several_nodes_and_a_throughput_that_stands_for_none() -> None:
    (one,) = read(N=NODES)
    assert (one["configuration"], one["commands"], one["platforms"]) == (
        "two nodes",
        [6, 9],
        ["a3"],
    )
    (figure,) = one["figures"]
    assert (figure["metric"], figure["baseline"], figure["dataset"]) == ("accuracy", 0, "gsm8k_gen")


def test_external_data_parallel_on_the_platforms_of_the_schedule() -> None:
    (one,) = read(E=EXTERNAL)
    assert (one["commands"], one["platforms"]) == ([6, 9], ["a2", "a3"])


def test_a_file_that_is_no_yaml_has_no_figures() -> None:
    assert read(B=BROKEN) == []
    assert baselines.text(Tree("vllm-ascend", "0", {f"{FOLDER}/B.yaml": BROKEN})) == ""


@pytest.mark.index
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_figure_is_the_source_s(path: Path) -> None:
    """UPDATE_GOLDEN=1 writes the file."""
    source = tree("vllm-ascend", path.stem[1:])
    text = baselines.text(source)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text
    count = 0
    for one in yaml.safe_load(text):
        lines = source.text(one["file"]).splitlines()
        for figure in one["figures"]:
            stated = re.search(r"\bbaseline: *([\d.]+)", lines[figure["line"] - 1])
            assert stated
            assert float(stated[1]) == figure["baseline"]
            count += 1
    assert count


@pytest.mark.index
def test_how_upstream_compares() -> None:
    """What `metric`, `baseline` and `threshold` mean, as tools/aisbench.py has it."""
    for path in FILES:
        text = tree("vllm-ascend", path.stem[1:]).text("tools/aisbench.py")
        assert re.search(r'"Output Token Throughput"\]\[\s*"total"', text)
        assert "self.threshold * self.baseline" in text
        assert re.search(r"self\.baseline - self\.threshold <= acc_value <= self\.baseline", text)
