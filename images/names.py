"""Names that images have wherever they are built, pushed or run."""

from __future__ import annotations

REPOSITORY = "vllm-ascend"
