"""What is known of a model without loading it: its config.json, or env/models.yaml by its name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from entrypoints.inputs import data
from entrypoints.inputs.arguments import Flags, json_of, value_of
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_LARGEST = 1 << 20  # bytes of a config.json that is read
_HIGHEST = 1 << 40  # a number in it that can be meant
_DEPTH = 8
_SUFFIX = re.compile(r"-(bf16|w(?P<bits>[48])a(8|16))(-\w+)?")
# vllm v0.13.0: vllm/config/model.py, _get_and_verify_max_len
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts")
_ALREADY_SCALED = ("su", "longrope", "llama3")


class Model(NamedTuple):
    """None or 0 where the source does not say. `bits` is the width of a weight.

    `longest`: tokens that vLLM allows for --max-model-len; `scaled`: by rope scaling.
    `parameters`: (of the experts, of everything else).
    """

    architectures: tuple[str, ...]
    moe: bool
    layers: int
    hidden: int
    kv_heads: int
    head_dim: int
    experts: int
    bits: int | None
    longest: int | None
    scaled: bool
    parameters: tuple[int, int] | None
    source: str

    def weights(self, expert_ranks: int, ranks: int) -> float | None:
        """Bytes of weights on one device, when `ranks` share everything but the experts."""
        if self.parameters is None or self.bits is None:
            return None
        experts, others = self.parameters
        return (experts / expert_ranks + others / ranks) * self.bits / 8

    def kv_cache(self, tokens: int, tp: int, pp: int) -> float | None:
        """Bytes of one request's KV cache on one device, 16 bits a value."""
        if not (self.parameters and self.kv_heads and self.head_dim):
            return None
        heads = max(1, self.kv_heads // tp)
        return 2 * heads * self.head_dim * 2 * self.layers / pp * tokens


def find(name: str, flags: Flags) -> Model | None:
    """The facts about a model by name or folder, None when nothing is known. Never raises."""
    overrides = json_of(flags, "--hf-overrides")
    over: dict[str, Any] = overrides if isinstance(overrides, dict) else {}
    scaling = json_of(flags, "--rope-scaling")
    if isinstance(scaling, dict):
        over = {**over, "rope_scaling": scaling}
    config = _local(name)
    if config is not None:
        bits = _bits(config, name)
        if bits == 16 and value_of(flags, "--quantization"):
            bits = None  # quantized, and nothing here says how
        return _model(config, over, bits, os.path.join(name, "config.json"))
    for known in data.read(data.path_of("models.yaml"))["models"]:
        rest = _rest(name, known["name"])
        if rest is not None:
            bits = int(rest["bits"] or 16) if rest else 16
            return _model(known["config"], over, bits, known["source"])
    return None


def _local(name: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(name, "config.json"), "rb") as file:
            raw = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def _rest(name: str, known: str) -> Mapping[str, str | None] | None:
    """What follows the known name: {} for nothing, None when it is another name."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    if not last.startswith(known.lower()):
        return None
    rest = last[len(known) :]
    match = _SUFFIX.fullmatch(rest)
    return match.groupdict() if match else None if rest else {}


def _bits(config: Mapping[str, Any], name: str) -> int | None:
    """Quantized weights say so in config.json or in the folder's name; None when unclear."""
    stated = f"{config.get('quantize') or config.get('moe_quantize') or ''}".lower()
    match = re.search(r"w([48])a", stated) or re.search(r"-w([48])a", name.lower())
    if match:
        return int(match[1])
    return None if stated or "quantization_config" in config else 16


def _model(
    config: Mapping[str, Any], over: Mapping[str, Any], bits: int | None, source: str
) -> Model:
    inner = config.get("text_config")
    text = {**config, **(inner if isinstance(inner, dict) else {}), **over}
    heads, hidden = _number(text, "num_attention_heads"), _number(text, "hidden_size")
    architectures = text.get("architectures")
    longest, scaled = _longest(text)
    return Model(
        architectures=tuple(map(str, architectures if isinstance(architectures, list) else ())),
        moe=_mentions_experts(text),
        layers=_number(text, "num_hidden_layers"),
        hidden=hidden,
        kv_heads=_number(text, "num_key_value_heads") or heads,
        head_dim=_number(text, "head_dim") or (hidden // heads if heads else 0),
        experts=_number(text, *_EXPERTS),
        bits=bits,
        longest=longest,
        scaled=scaled,
        parameters=_parameters(text),
        source=source,
    )


def _number(config: Mapping[str, Any], *names: str) -> int:
    """The first of the names that is a whole number from 1 up, else 0."""
    for name in names:
        value = config.get(name)
        if type(value) is int and 0 < value < _HIGHEST:
            return value
    return 0


def _mentions_experts(config: Any, depth: int = _DEPTH) -> bool:
    """vllm-ascend v0.13.0: vllm_ascend/utils.py, _is_contain_expert."""
    if not isinstance(config, dict) or not depth:
        return False
    return any("expert" in key or _mentions_experts(config[key], depth - 1) for key in config)


def _longest(config: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Tokens that vLLM derives from the config, and whether by rope scaling."""
    stated = [length for name in _LENGTHS if (length := _number(config, name))]
    if not stated:
        return None, False
    longest = _number(config, "model_max_length") or min(stated)
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, dict):
        return longest, False
    kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
    if kind in _ALREADY_SCALED or not isinstance(factor, (int, float)):
        return longest, False
    if not 0 < factor < _HIGHEST:
        return longest, False
    if kind == "yarn":
        longest = _number(rope, "original_max_position_embeddings") or longest
    return int(longest * factor), True


def _parameters(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Parameters of the experts and of the rest; None for latent attention and what is unclear."""
    layers, hidden = _number(config, "num_hidden_layers"), _number(config, "hidden_size")
    heads, vocabulary = _number(config, "num_attention_heads"), _number(config, "vocab_size")
    if not (layers and hidden and heads and vocabulary) or config.get("kv_lora_rank"):
        return None
    head_dim = _number(config, "head_dim") or hidden // heads
    kv_heads = _number(config, "num_key_value_heads") or heads
    attention = 2 * hidden * head_dim * (heads + kv_heads)
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") is True else 2)
    count, width = _number(config, *_EXPERTS), _number(config, "moe_intermediate_size")
    if count and not width:
        return None
    mlp = 0 if count else 3 * hidden * _number(config, "intermediate_size")
    experts = layers * count * 3 * hidden * width
    return experts, layers * (attention + mlp) + embeddings
