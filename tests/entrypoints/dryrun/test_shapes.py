"""Folders for models that are not mounted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrypoints.dryrun import shapes


def written(name: str, folder: Path, longest: int = 0) -> tuple[dict[str, object], dict[str, str]]:
    shape = shapes.find(name)
    assert shape is not None
    shapes.write(shape, str(folder), longest)
    description = folder / "quant_model_description.json"
    config = json.loads((folder / "config.json").read_text())
    return config, json.loads(description.read_text()) if description.exists() else {}


def test_a_model_by_name(tmp_path: Path) -> None:
    config, description = written("Qwen/Qwen3-235B-A22B", tmp_path)
    assert config["architectures"] == ["Qwen3MoeForCausalLM"]
    assert config["num_experts"] == 128
    assert not description


@pytest.mark.parametrize(
    ("name", "experts"), [("Qwen3-235B-A22B-w8a8", "W8A8"), ("DeepSeek-R1-0528-w4a8", "W4A8")]
)
def test_a_quantized_name(tmp_path: Path, name: str, experts: str) -> None:
    _, description = written(name, tmp_path)
    assert description["model.layers.5.mlp.experts.7.up_proj.weight"] == f"{experts}_DYNAMIC"
    assert description["model.layers.5.self_attn.o_proj.weight"] == "W8A8_DYNAMIC"
    assert description["model.layers.5.mlp.gate.weight"] == "FLOAT"
    assert description["lm_head.weight"] == "FLOAT"


def test_the_layers_of_drafts_are_described(tmp_path: Path) -> None:
    config, description = written("DeepSeek-V3.1-w8a8", tmp_path)
    assert config["num_nextn_predict_layers"] == 1
    assert "model.layers.61.mlp.experts.0.up_proj.weight" in description


def test_a_context_that_no_source_states(tmp_path: Path) -> None:
    config, _ = written("Qwen3-235B-A22B-Instruct-2507", tmp_path, longest=133000)
    assert config["max_position_embeddings"] == 133000


@pytest.mark.parametrize("name", ["own/model", "GLM-4.5", "Qwen3-235B"])
def test_what_is_not_known_well_enough(name: str) -> None:
    assert shapes.find(name) is None


def test_no_key_of_ours_reaches_upstream(tmp_path: Path) -> None:
    config, _ = written("DeepSeek-V4-Flash", tmp_path)
    assert "checkpoint_quantization" not in config
