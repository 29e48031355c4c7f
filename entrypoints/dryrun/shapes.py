"""A folder for a model that is not mounted: its config.json and its quantization's description."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from entrypoints.inputs import model
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

# The linear layers of a decoder layer in the checkpoints of the library's models. Names that a
# model lacks do no harm: upstream looks up only those that the model has.
_LINEAR = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "self_attn.q_a_proj",
    "self_attn.q_b_proj",
    "self_attn.kv_a_proj_with_mqa",
    "self_attn.indexer.wq_b",
    "self_attn.indexer.wk",
    "linear_attn.in_proj_qkvz",
    "linear_attn.in_proj_ba",
    "linear_attn.out_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "mlp.shared_experts.gate_proj",
    "mlp.shared_experts.up_proj",
    "mlp.shared_experts.down_proj",
    "mlp.shared_expert.gate_proj",
    "mlp.shared_expert.up_proj",
    "mlp.shared_expert.down_proj",
)
_FLOAT = (
    "self_attn.kv_b_proj",
    "self_attn.indexer.weights_proj",
    "mlp.gate",
    "mlp.shared_expert_gate",
    "eh_proj",
    "shared_head.head",
    "embed_tokens",
)
_TOP = ("lm_head", "model.embed_tokens", "model.norm")


class Shape(NamedTuple):
    """The config.json of a model. `bits`: the width of an expert's weight, by the model's name."""

    config: dict[str, Any]
    source: str
    bits: int


def find(name: str) -> Shape | None:
    """The shape of a model by name; None if env/models.yaml lacks what upstream needs."""
    found = model.known(name)
    if found is None or "model_type" not in found[0]["config"]:
        return None
    entry, suffix = found
    config = {k: v for k, v in entry["config"].items() if k != "checkpoint_quantization"}
    return Shape(config, entry["source"], model.suffix_bits(suffix))


def write(shape: Shape, folder: str, longest: int) -> None:
    """Write the files that upstream reads before the weights. `longest`: tokens, if unknown."""
    config = dict(shape.config)
    text = model.flat(config)
    if longest and "max_position_embeddings" not in text:
        config["max_position_embeddings"] = longest
    _dump(os.path.join(folder, "config.json"), config)
    if shape.bits < 16:
        description = dict(_description(text, shape.bits))
        _dump(os.path.join(folder, "quant_model_description.json"), description)


def _description(config: dict[str, Any], bits: int) -> Iterator[tuple[str, str]]:
    """ModelSlim's description: linear layers and experts quantized, everything else not."""
    experts = next((config[key] for key in model.EXPERTS if config.get(key)), 0)
    drafts = config.get("num_nextn_predict_layers") or 0
    narrow = f"W{bits}A8_DYNAMIC"
    yield "version", "1.0.0"
    for layer in range(config["num_hidden_layers"] + drafts):
        prefix = f"model.layers.{layer}."
        for name in _LINEAR:
            yield f"{prefix}{name}.weight", "W8A8_DYNAMIC"
        for name in _FLOAT:
            yield f"{prefix}{name}.weight", "FLOAT"
        for expert in range(experts):
            for name in ("gate_proj", "up_proj", "down_proj"):
                yield f"{prefix}mlp.experts.{expert}.{name}.weight", narrow
    for name in _TOP:
        yield f"{name}.weight", "FLOAT"


def _dump(path: str, value: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
