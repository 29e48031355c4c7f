"""Find the log line that best shows what a server is doing."""

from __future__ import annotations

import re
from collections.abc import Sequence

TAIL = 20  # lines to search
# vllm: vllm/logger.py, vllm/utils/system_utils.py: (EngineCore pid=7) INFO 11-26 02:16:03 [a.py:5]
_PREFIX = re.compile(
    r"^(?:\([^)]*\)\s*)?(?:(?:DEBUG|INFO|WARNING|ERROR) [\d-]+ [\d:]+ \[[^]]*\]\s*|INFO:\s+)?"
)
# Health probes, progress bars, banners, continuation lines, and vLLM's warnings about the
# entrypoint's own variables.
_NOISE = re.compile(
    r'"GET /(?:health|metrics)|\d+%\||^\W*$|\] (?:\\t| )'
    r"|Unknown vLLM environment variable|Found ulimit of|Triton not available"
)


def last_informative(lines: Sequence[str]) -> list[str]:
    """The last line that is not noise, without vLLM's log prefix; empty if there is none."""
    plain = (_PREFIX.sub("", line, count=1) for line in reversed(lines) if not _NOISE.search(line))
    return [line for line in plain if line.strip()][:1]
