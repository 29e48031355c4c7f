"""What is known about a model without loading it: from its config.json, or env/models.yaml."""

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
_HIGHEST = 1 << 40  # no number in it can sensibly be larger
_DEPTH = 8
_SUFFIX = re.compile(r"-(bf16|w(?P<bits>[48])a(4|8|16))(-\w+)*")
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
EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts")
_ALREADY_SCALED = ("su", "longrope", "llama3")


class Model(NamedTuple):
    """Facts about a model; None or 0 for what the source does not state.

    `bits`: width of a weight. `expert_bits`: that of an expert's weight, if it differs.
    `longest`: tokens that vLLM allows for --max-model-len. `scaled`: whether by rope scaling.
    `parameters`: (of the experts, of everything else). `latent`: values that latent attention
    keeps of a token in a layer. `cached`: layers whose cache grows with the tokens.
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
    expert_bits: int | None = None
    latent: int = 0
    cached: int = 0

    def weights(self, expert_ranks: int, ranks: int) -> float | None:
        """Bytes of weights on one device, when `ranks` share everything except the experts."""
        if self.parameters is None or self.bits is None:
            return None
        experts, others = self.parameters
        width = self.expert_bits or self.bits
        return (experts / expert_ranks * width + others / ranks * self.bits) / 8

    def kv_cache(self, tokens: int, tp: int, pp: int) -> float | None:
        """Bytes of one request's KV cache on one device, at 16 bits per value.

        The ranks of tp share the heads, but each holds the latent values.
        """
        if not (self.parameters and self.kv_heads and self.head_dim):
            return None
        values = self.latent or 2 * max(1, self.kv_heads // tp) * self.head_dim
        return values * 2 * (self.cached or self.layers) / pp * tokens


class Deprecation(NamedTuple):
    """A model that releases after `release` may no longer test."""

    model: str
    release: str
    source: str


def deprecation(name: str) -> Deprecation | None:
    """Whether upstream plans to stop testing a model, given by name or folder."""
    known = data.read(data.path_of("models.yaml"))["deprecated"]
    for model in known["names"]:
        if _suffix(name, model) is not None:
            return Deprecation(model, known["release"], known["source"])
    return None


def find(name: str, flags: Flags) -> Model | None:
    """The facts about a model by name or folder; None when it is unknown. Never raises."""
    overrides = json_of(flags, "--hf-overrides")
    over: dict[str, Any] = overrides if isinstance(overrides, dict) else {}
    scaling = json_of(flags, "--rope-scaling")
    if isinstance(scaling, dict):
        over = {**over, "rope_scaling": scaling}
    config = _local(name)
    if config is not None:
        bits = _bits(config, name)
        if bits == 16 and value_of(flags, "--quantization"):
            bits = None  # quantized in an unknown way
        return _model(config, over, bits, os.path.join(name, "config.json"))
    named = known(name)
    if named is None:
        return None
    entry, suffix = named
    published = None if "checkpoint_quantization" in entry["config"] else 16
    bits = suffix_bits(suffix) if suffix else published
    made = _model(entry["config"], over, bits, entry["source"])
    return made if suffix else made._replace(expert_bits=entry.get("expert_bits"))


def known(name: str) -> tuple[Mapping[str, Any], str] | None:
    """The entry of env/models.yaml for a name, and the rest of the name, such as `-w8a8`."""
    for entry in data.read(data.path_of("models.yaml"))["models"]:
        suffix = _suffix(name, entry["name"])
        if suffix is not None:
            return entry, suffix
    return None


def _suffix(name: str, stem: str) -> str | None:
    """The rest after the known name; None for a different name."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    suffix = last[len(stem) :]
    fits = last.startswith(stem.lower()) and (not suffix or _SUFFIX.fullmatch(suffix))
    return suffix if fits else None


def suffix_bits(suffix: str) -> int:
    """The width of an expert's weight by the suffix of a name: 8 for `-w8a8`, 16 without one."""
    match = _SUFFIX.fullmatch(suffix)
    return int(match["bits"] or 16) if match else 16


def _local(name: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(name, "config.json"), "rb") as file:
            raw = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def _bits(config: Mapping[str, Any], name: str) -> int | None:
    """The width of a weight, from config.json or the folder's name; None when unclear."""
    stated = f"{config.get('quantize') or config.get('moe_quantize') or ''}".lower()
    match = re.search(r"w([48])a", stated) or re.search(r"-w([48])a", name.lower())
    if match:
        return int(match[1])
    return None if stated or "quantization_config" in config else 16


def _model(
    config: Mapping[str, Any], over: Mapping[str, Any], bits: int | None, source: str
) -> Model:
    text = {**flat(config), **over}
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
        experts=_number(text, *EXPERTS),
        bits=bits,
        longest=longest,
        scaled=scaled,
        parameters=_parameters(text),
        source=source,
        latent=_latent(text),
        cached=_cached(text),
    )


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config.json with those of its language model, which a vision model nests."""
    inner = config.get("text_config")
    return {**config, **(inner if isinstance(inner, dict) else {})}


def _number(config: Mapping[str, Any], *names: str) -> int:
    """The value of the first name that is a whole number of 1 or more, else 0."""
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


def _latent(config: Mapping[str, Any]) -> int:
    """vllm v0.13.0: vllm/model_executor/models/deepseek_v2.py, DeepseekV2MLAAttention."""
    rank = _number(config, "kv_lora_rank")
    return rank + _number(config, "qk_rope_head_dim") if rank else 0


def _cached(config: Mapping[str, Any]) -> int:
    """Linear attention keeps a state of fixed size (vllm v0.13.0: configs/qwen3_next.py)."""
    layers, every = (
        _number(config, name) for name in ("num_hidden_layers", "full_attention_interval")
    )
    return layers // every if every else layers


def _parameters(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Parameters of the experts and of the rest; None when the config does not state enough."""
    layers, hidden = _number(config, "num_hidden_layers"), _number(config, "hidden_size")
    heads, vocabulary = _number(config, "num_attention_heads"), _number(config, "vocab_size")
    if not (layers and hidden and heads and vocabulary):
        return None
    attention = _attention(config, layers, hidden, heads)
    count, width = _number(config, *EXPERTS), _number(config, "moe_intermediate_size")
    if attention is None or (count and not width):
        return None
    dense = min(_number(config, "first_k_dense_replace"), layers) if count else layers
    shared = _number(config, "shared_expert_intermediate_size") or width * _number(
        config, "n_shared_experts"
    )
    mlps = dense * _number(config, "intermediate_size") + (layers - dense) * shared
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") is True else 2)
    experts = (layers - dense) * count * 3 * hidden * width
    return experts, attention + 3 * hidden * mlps + embeddings


def _attention(config: Mapping[str, Any], layers: int, hidden: int, heads: int) -> int | None:
    """Parameters of attention in all layers; None for an unknown kind of attention."""
    rank = _number(config, "kv_lora_rank")
    if rank:
        names = ("q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        query, plain, rotary, value = (_number(config, name) for name in names)
        if not (query and plain and rotary and value):
            return None
        queries = hidden * query + query * heads * (plain + rotary)
        keys = hidden * (rank + rotary) + rank * heads * (plain + value)
        return layers * (queries + keys + heads * value * hidden)
    head_dim = _number(config, "head_dim") or hidden // heads
    kv_heads = _number(config, "num_key_value_heads") or heads
    full = _cached(config)
    if full == layers:
        return layers * 2 * hidden * head_dim * (heads + kv_heads)
    # vllm v0.13.0: vllm/model_executor/models/qwen3_next.py, with a gate as wide as the output.
    key = _number(config, "linear_num_key_heads") * _number(config, "linear_key_head_dim")
    value = _number(config, "linear_num_value_heads") * _number(config, "linear_value_head_dim")
    gated = hidden * head_dim * (3 * heads + 2 * kv_heads)
    return (
        full * gated + (layers - full) * hidden * (2 * key + 3 * value) if key and value else None
    )
