"""What differs between releases of vllm-ascend, each with its reason."""

from __future__ import annotations

from typing import Any


def worker() -> Any:
    """The worker's module, with functions that would touch the machine doing nothing.

    Absent names belong to other releases: `bind_cpus` (cores of the host), and the rest ask the
    NPU's driver for the kind and the cores of the chip, which the image's SOC_VERSION states.
    """
    from vllm_ascend.worker import worker as module

    for name in (
        "_register_atb_extensions",
        "bind_cpus",
        "check_ascend_device_type",
        "init_device_properties_triton",
    ):
        if hasattr(module, name):
            setattr(module, name, lambda *args, **kwargs: None)
    return module


def tool_parsers() -> Any:
    """The registry of tool parsers, which moved out of entrypoints in vLLM 0.13."""
    try:
        from vllm.tool_parsers import ToolParserManager
    except ImportError:
        from vllm.entrypoints.openai.tool_parsers import ToolParserManager
    return ToolParserManager
