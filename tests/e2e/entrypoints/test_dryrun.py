"""The image's own vLLM and vllm-ascend say whether nodes would start, on stub libraries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Image, docker

THROUGHPUT = {"ROLE": "single", "RECIPE": "qwen3-235b-a22b-w8a8/throughput-a3"}
TRANSFER = {"ROLE": "prefill", "RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3", "LOCAL_IP": "10.0.0.1"}
OWN = {"ROLE": "single", "RECIPE": "", "TP_SIZE": "4", "DP_SIZE": "4"}
QWEN = {**OWN, "MODEL": "Qwen/Qwen3-235B-A22B-w8a8"}
QUANTIZED = ["--quantization", "ascend", "--enable-expert-parallel"]

# name → variables, arguments, whether upstream refuses, and what it says
NODES: dict[str, tuple[dict[str, str], list[str], bool, str]] = {
    "accepted": (THROUGHPUT, [], False, "FULL_DECODE_ONLY compilation enabled on NPU"),
    "prefill": (TRANSFER, [], False, "using eager mode"),
    "heads": (
        {**QWEN, "TP_SIZE": "7", "DP_SIZE": "2"},
        QUANTIZED,
        True,
        "must be divisible by tensor parallel size (7)",
    ),
    "eplb": (
        QWEN,
        [*QUANTIZED, "--additional-config", '{"dynamic_eplb": true, "torchair_graph_config": {}}'],
        True,
        "Can not enable dynamic_eplb when DYNAMIC_EPLB is not set",
    ),
    "tool parser": (
        QWEN,
        [*QUANTIZED, "--enable-auto-tool-choice", "--tool-call-parser", "deepseek_v4"],
        True,
        "deepseek_v4",
    ),
    "memory": (
        {**QWEN, "MODEL": "DeepSeek-V3.1-bf16"},
        ["--enable-expert-parallel"],
        True,
        "No available memory for the cache blocks",
    ),
}


def ask(image: Image, nodes: list[dict[str, Any]], *options: str, mount: str = "") -> Any:
    mounts = [f"--mount={mount}"] if mount else []
    answer = subprocess.run(
        [
            *("docker", "run", "--interactive", "--rm", "--network=none", "--read-only"),
            *("--tmpfs=/tmp", "--tmpfs=/root", *mounts, image.tag),
            *("dryrun", "--nodes", "--format=json", *options),
        ],
        input=json.dumps(nodes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode in (0, 65), answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def reports(a3: Image) -> dict[str, dict[str, Any]]:
    """What upstream says of all nodes: one import for all, and nothing is written."""
    nodes = [
        {"name": name, "variables": variables, "arguments": arguments}
        for name, (variables, arguments, _, _) in NODES.items()
    ]
    return {one["name"]: one for one in ask(a3, nodes)}


@pytest.mark.parametrize("name", NODES)
def test_upstreams_verdict_and_words(reports: dict[str, dict[str, Any]], name: str) -> None:
    _, _, refused, words = NODES[name]
    report = reports[name]
    assert report["refused"] == refused, report
    said = [one for one in report["findings"] if words in one["message"]]
    assert said, report["findings"]
    if refused:
        assert any(one["severity"] == "error" and one["judged"] for one in said)


def test_the_weights_of_a_rank(reports: dict[str, dict[str, Any]]) -> None:
    """15.47 GiB: 235 billion parameters at 8 bits over 16 ranks, and what all ranks hold."""
    (rank,) = reports["accepted"]["ranks"]
    assert sum(rank["weights"].values()) / 2**30 == pytest.approx(15.47, abs=0.01)
    assert rank["weights"]["experts"] / 2**30 == pytest.approx(13.24, abs=0.01)


def test_the_cache_of_a_token(reports: dict[str, dict[str, Any]]) -> None:
    """One KV head of 128 values for keys and values in 94 layers at 2 bytes: 48,128 bytes."""
    accepted = reports["accepted"]
    memory, block = accepted["memory"], accepted["decided"]["block_size"]
    assert accepted["ranks"][0]["page"] == 48128 * block
    assert memory["tokens"] == memory["available"] // (48128 * block) * block
    assert memory["requests"] == memory["tokens"] / 40960


def test_what_nothing_reads(reports: dict[str, dict[str, Any]]) -> None:
    messages = [one["message"] for one in reports["eplb"]["findings"]]
    unread = [one for one in messages if one.startswith("nothing in this image reads")]
    assert unread == ["nothing in this image reads torchair_graph_config of --additional-config"]


def test_a_new_refusal_of_upstream_is_reported(a3: Image, tmp_path: Path) -> None:
    path = "/opt/vllm/lib/python3.11/site-packages/vllm_ascend/platform.py"
    text = docker("run", "--rm", "--entrypoint=cat", a3.tag, path).stdout
    at = "    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:\n"
    assert at in text
    planted = tmp_path / "platform.py"
    planted.write_text(text.replace(at, f"{at}        raise ValueError('not on a Sunday')\n"))
    (report,) = ask(
        a3,
        [{"name": "", "variables": THROUGHPUT, "arguments": []}],
        "--no-model",
        mount=f"type=bind,src={planted},dst={path},readonly",
    )
    assert report["refused"]
    (error,) = [one for one in report["findings"] if one["severity"] == "error"]
    assert "not on a Sunday" in error["message"]
    assert error["at"].startswith("vllm_ascend/platform.py:")
