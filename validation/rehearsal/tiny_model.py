"""Write a tiny model with random weights that vLLM can serve, without any download.

A Qwen3 with two layers whose tokens are bytes. The same seed gives the same files on every node, so
prefill and decode hold the same model.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import write_atomically

BYTES = 256
WEIGHTS = "model.safetensors"  # written last
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. The heads are a multiple of every tensor parallel size of a rehearsal."""

    layers: int = 2
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 64
    intermediate: int = 512
    vocabulary: int = 320
    context: int = 4096


def write(directory: Path, shape: Shape = Shape(), seed: int = 0) -> Path:
    """Write the model to `directory` and return that. Equal arguments give equal bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "config.json": _config(shape),
        "generation_config.json": {"eos_token_id": BYTES, "pad_token_id": BYTES},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": SPECIAL[0],
            "pad_token": SPECIAL[0],
            "model_max_length": shape.context,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    for name, content in texts.items():
        (directory / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_atomically(directory / WEIGHTS, _weights(shape, random.Random(seed)))
    return directory


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": BYTES,
        "eos_token_id": BYTES,
        "torch_dtype": "bfloat16",
    }


def _tokenizer() -> dict[str, Any]:
    """One token for each byte, in the characters of byte-level BPE, without merges."""
    vocabulary = {symbol: number for number, symbol in enumerate(_symbols())}
    added = [
        {
            "id": BYTES + number,
            "content": word,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for number, word in enumerate(SPECIAL)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**level, "use_regex": False},
        "post_processor": None,
        "decoder": {**level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _symbols() -> Iterator[str]:
    """Byte-level BPE's character for each byte: printable bytes as they are, others from 256 on."""
    beyond = BYTES
    for byte in range(BYTES):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF:
            yield chr(byte)
        else:
            yield chr(beyond)
            beyond += 1


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of every tensor; norms have one dimension."""
    yield "model.embed_tokens.weight", (shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        query, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        yield f"{at}.input_layernorm.weight", (shape.hidden,)
        yield f"{at}.post_attention_layernorm.weight", (shape.hidden,)
        yield f"{at}.self_attn.q_norm.weight", (shape.head_dim,)
        yield f"{at}.self_attn.k_norm.weight", (shape.head_dim,)
        yield f"{at}.self_attn.q_proj.weight", (query, shape.hidden)
        yield f"{at}.self_attn.k_proj.weight", (keys, shape.hidden)
        yield f"{at}.self_attn.v_proj.weight", (keys, shape.hidden)
        yield f"{at}.self_attn.o_proj.weight", (shape.hidden, query)
        yield f"{at}.mlp.gate_proj.weight", (shape.intermediate, shape.hidden)
        yield f"{at}.mlp.up_proj.weight", (shape.intermediate, shape.hidden)
        yield f"{at}.mlp.down_proj.weight", (shape.hidden, shape.intermediate)
    yield "model.norm.weight", (shape.hidden,)
    yield "lm_head.weight", (shape.vocabulary, shape.hidden)


def _weights(shape: Shape, source: random.Random) -> bytes:
    """A safetensors file: the length of the header, the header, and the tensors in its order."""
    header: dict[str, Any] = {}
    parts, offset = [], 0
    for name, dimensions in _tensors(shape):
        count = dimensions[0] * (dimensions[1] if len(dimensions) > 1 else 1)
        data = _ones(count) if len(dimensions) == 1 else _random(count, source)
        offsets = [offset, offset + len(data)]
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": offsets}
        offset += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def _ones(count: int) -> bytes:
    return struct.pack("<H", 0x3F80) * count


# High bytes of a bfloat16 of either sign between 2**-7 and 2**-5.
_HIGH = bytes(0x3C | (byte & 0x80) for byte in range(BYTES))


def _random(count: int, source: random.Random) -> bytes:
    data = bytearray(2 * count)
    data[0::2] = source.randbytes(count)
    data[1::2] = source.randbytes(count).translate(_HIGH)
    return bytes(data)
