"""Write a tiny model with random weights that vLLM can serve, without any download.

tiny_model.yaml describes it. The files are the same on every node, so prefill and decode hold the
same model.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.files import write_atomically
from common.yaml import document

BYTES = 256
FILES = Path(__file__).with_suffix(".yaml")
WEIGHTS = "model.safetensors"  # written last


def write(directory: Path) -> Path:
    """Write the model to `directory` and return that. The bytes are always the same."""
    directory.mkdir(parents=True, exist_ok=True)
    files = document(FILES)
    files["tokenizer.json"]["model"]["vocab"] = {s: number for number, s in enumerate(_symbols())}
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_atomically(directory / WEIGHTS, _weights(files["config.json"], random.Random(0)))
    return directory


def _symbols() -> Iterator[str]:
    """Byte-level BPE's character for each byte: printable bytes as they are, others from 256 on."""
    beyond = BYTES
    for byte in range(BYTES):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF:
            yield chr(byte)
        else:
            yield chr(beyond)
            beyond += 1


def _tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of every tensor; norms have one dimension."""
    hidden, head, mlp = (config[k] for k in ("hidden_size", "head_dim", "intermediate_size"))
    query, keys = (config[f"num_{k}_heads"] * head for k in ("attention", "key_value"))
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (hidden,)
        yield f"{at}.post_attention_layernorm.weight", (hidden,)
        yield f"{at}.self_attn.q_norm.weight", (head,)
        yield f"{at}.self_attn.k_norm.weight", (head,)
        yield f"{at}.self_attn.q_proj.weight", (query, hidden)
        yield f"{at}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{at}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{at}.self_attn.o_proj.weight", (hidden, query)
        yield f"{at}.mlp.gate_proj.weight", (mlp, hidden)
        yield f"{at}.mlp.up_proj.weight", (mlp, hidden)
        yield f"{at}.mlp.down_proj.weight", (hidden, mlp)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (config["vocab_size"], hidden)


def _weights(config: Mapping[str, Any], source: random.Random) -> bytes:
    """A safetensors file: the length of the header, the header, and the tensors in its order."""
    header: dict[str, Any] = {}
    parts, offset = [], 0
    for name, dimensions in _tensors(config):
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
