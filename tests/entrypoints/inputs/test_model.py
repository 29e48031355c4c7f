"""Facts about a model, from its folder or its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrypoints.inputs import model
from entrypoints.inputs.arguments import Flag

NAMED = "vllm-ascend/Qwen3-235B-A22B-w8a8"
YARN = {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768}
DENSE = {
    "architectures": ["Tiny"],
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
}


def flags(**values: object) -> Flags:
    names = {f"--{key.replace('_', '-')}": value for key, value in values.items()}
    return {key: (Flag(key, (json.dumps(value),)),) for key, value in names.items()}


Flags = dict[str, tuple[Flag, ...]]
Folder = Callable[..., str]


def find(name: str, given: Flags) -> model.Model:
    """The facts about a model that is known."""
    found = model.find(name, given)
    assert found is not None
    return found


def parameters(name: str) -> tuple[int, int]:
    found = find(name, {}).parameters
    assert found is not None
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    def write(config: object, name: str = "m") -> str:
        (tmp_path / name).mkdir(exist_ok=True)
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / name / "config.json").write_text(text)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("name", "bits"),
    [(NAMED, 8), ("/w/qwen3-235b-a22b/", 16), ("Qwen3-235B-A22B-W4A8-mtp", 4)],
)
def test_by_name(name: str, bits: int) -> None:
    found = find(name, {})
    assert (found.bits, found.longest, found.moe, found.layers) == (bits, 40960, True, 94)
    assert round(sum(parameters(name)) / 1e9) == 235


@pytest.mark.parametrize("name", ["Qwen3-235B-A22B-mine", "other", "", "a\0b", "x/" * 3000])
def test_unknown_name(name: str) -> None:
    assert model.find(name, {}) is None


def test_a_longer_name_is_another_model() -> None:
    assert find("Qwen/Qwen3-235B-A22B-Instruct-2507", {}).longest is None


@pytest.mark.parametrize(
    "given",
    [{"hf_overrides": {"rope_parameters": YARN}}, {"rope_scaling": YARN}],
)
def test_yarn(given: dict[str, Any]) -> None:
    found = find(NAMED, flags(**given))
    assert (found.longest, found.scaled) == (4 * 32768, True)


def test_a_folder_says_more_than_its_name(folder: Folder) -> None:
    path = folder({**DENSE, "max_position_embeddings": 7}, "Qwen3-235B-A22B")
    found = find(path, {})
    assert (found.longest, found.moe, found.kv_heads, found.head_dim) == (7, False, 4, 16)
    assert found.source == f"{path}/config.json"


def test_parameters_of_a_dense_model(folder: Folder) -> None:
    found = find(folder(DENSE), {})
    attention, mlp, embeddings = 4 * 64 * 64, 3 * 64 * 128, 2 * 100 * 64
    assert found.parameters == (0, 2 * (attention + mlp) + embeddings)
    assert found.parameters
    assert found.weights(8, 2) == found.parameters[1] / 2 * 2
    assert found.kv_cache(10, 2, 1) == 2 * 2 * 16 * 2 * 2 * 10


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("DeepSeek-V3.1-w8a8-mtp-QuaRot", 671),
        ("Kimi-K2-Thinking", 1026),
        ("Qwen3-Next-80B-A3B-Instruct", 80),
        ("GLM-4.7-W8A8-floatmtp", 353),
        ("Qwen3-VL-30B-A3B-Instruct", 31),
    ],
)
def test_parameters_of_every_kind_of_attention(name: str, billions: int) -> None:
    """Without the layers that speculate, which some names count: GLM-4.5 is 355B with its one."""
    assert round(sum(parameters(name)) / 1e9) == billions


def test_latent_attention_keeps_the_same_on_every_rank() -> None:
    found = find("DeepSeek-R1-0528-W8A8", {})
    assert found.kv_cache(10, 1, 1) == found.kv_cache(10, 16, 1) == (512 + 64) * 2 * 61 * 10


def test_linear_attention_keeps_nothing_of_a_token() -> None:
    found = find("Qwen3-Next-80B-A3B-Instruct", {})
    assert found.kv_cache(10, 2, 1) == 2 * 1 * 256 * 2 * (48 // 4) * 10


def test_experts_with_weights_of_their_own_width() -> None:
    found = find("Kimi-K2-Thinking", {})
    experts, others = parameters("Kimi-K2-Thinking")
    assert found.weights(16, 16) == (experts * 4 + others * 16) / 16 / 8
    assert find("Kimi-K2-Thinking-W8A8", {}).expert_bits is None


@pytest.mark.parametrize("gone", ["q_lora_rank", "v_head_dim", "linear_num_key_heads"])
def test_what_is_not_said_of_attention_is_not_estimated(gone: str, folder: Folder) -> None:
    latent = {"q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
    linear = {"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_num_value_heads": 2}
    linear |= {"linear_value_head_dim": 8, "full_attention_interval": 2}
    more = linear if gone in linear else {**latent, "kv_lora_rank": 16}
    assert find(folder({**DENSE, **more}), {}).parameters is not None
    assert find(folder({**DENSE, **more, gone: None}), {}).parameters is None


def test_overrides_and_the_inner_config_of_a_multimodal_model(folder: Folder) -> None:
    path = folder({"architectures": ["V"], "text_config": {**DENSE, "n_routed_experts": 8}})
    found = find(path, flags(hf_overrides={"max_position_embeddings": 9}))
    assert (found.moe, found.experts, found.longest) == (True, 8, 9)
    assert found.parameters is None  # the experts' width is not stated


@pytest.mark.parametrize(
    ("config", "name", "bits"),
    [
        ({}, "m", 16),
        ({"quantize": "w8a8_dynamic"}, "m", 8),
        ({}, "m-W4A8", 4),
        ({"quantization_config": {}}, "m", None),
    ],
)
def test_width_of_a_weight(folder: Folder, config: Any, name: str, bits: int | None) -> None:
    assert find(folder({**DENSE, **config}, name), {}).bits == bits


def test_quantized_but_how_is_unclear(folder: Folder) -> None:
    given: Flags = {"--quantization": (Flag("--quantization", ("ascend",)),)}
    found = find(folder(DENSE), given)
    assert found.bits is None
    assert found.weights(1, 1) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"hidden_size": "x", "rope_scaling": 3}', "{}" * 2]
)
def test_a_strange_config_is_survived(folder: Folder, text: str) -> None:
    found = model.find(folder(text), {})
    assert found is None or found.parameters is None


def test_a_huge_config_is_not_read(folder: Folder) -> None:
    assert model.find(folder(json.dumps({**DENSE, "x": "y" * (1 << 20)})), {}) is None
