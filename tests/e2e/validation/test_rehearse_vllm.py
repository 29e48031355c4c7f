"""A whole cluster in containers with vLLM itself. Takes minutes: only `pytest -m cpu` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusters.file import read
from images.matrix import CpuVllm
from tests.e2e.conftest import Image, build, image
from tests.e2e.images.test_cpu import wheels
from tests.e2e.validation.test_rehearse import EXAMPLES, left, rehearse
from validation.rehearsal import cpu_rules, vllm_engine

pytestmark = [pytest.mark.e2e, pytest.mark.cpu]


@pytest.fixture(scope="module")
def cpu() -> Image:
    """The image that a rehearsal takes by itself."""
    cluster = read.load(EXAMPLES / "single.yaml")
    vllm = vllm_engine.select_variant(cluster, cpu_rules.load()).cpu_vllm
    assert isinstance(vllm, CpuVllm)
    (built,) = build("--platform=cpu", f"--vllm={vllm.version}", *wheels(vllm))
    return image(built)


def on_the_processor(image: Image, name: str, out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The report, and what its checks say by their names."""
    file = out / "cluster.yaml"  # with a name of its own: a rehearsal ends another of its name
    text = (EXAMPLES / f"{name}.yaml").read_text().splitlines()
    own = f"name: vllm-{name}"
    file.write_text("\n".join(own if line.startswith("name:") else line for line in text))
    code, report, said = rehearse(image, file, out, "--engine=vllm")
    assert code == 0, said[-3000:]
    assert left(f"vllm-{name}-rehearsal") == ""
    assert {one["state"] for one in report["checks"]} <= {"ok", "skipped"}
    return report, {one["name"]: one["message"] for one in report["checks"]}


def test_one_node(cpu: Image, tmp_path: Path) -> None:
    report, _ = on_the_processor(cpu, "single", tmp_path)
    assert report["ready"] < report["seconds"]


def test_both_ranks_of_two_nodes_serve(cpu: Image, tmp_path: Path) -> None:
    _, checks = on_the_processor(cpu, "multi-node", tmp_path)
    (served,) = [text for name, text in checks.items() if "-serve at" in name]
    assert "rank 0" in served
    assert "rank 1 0" not in served


def test_decode_takes_its_prompts_from_prefill(cpu: Image, tmp_path: Path) -> None:
    report, checks = on_the_processor(cpu, "pd-3node", tmp_path)
    (decode,) = [text for name, text in checks.items() if "-decode at" in name]
    assert "of the prompts' tokens from prefill" in decode
    assert any("MooncakeConnectorV1 with NixlConnector" in line for line in report["changes"])
