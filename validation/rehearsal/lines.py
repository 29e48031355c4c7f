"""Which of a server's last lines says most about where it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

LOOKED_AT = 20  # lines
# vllm: vllm/logger.py, vllm/utils/system_utils.py: (EngineCore pid=7) INFO 11-26 02:16:03 [a.py:5]
_HEAD = re.compile(
    r"^(?:\([^)]*\)\s*)?(?:(?:DEBUG|INFO|WARNING|ERROR) [\d-]+ [\d:]+ \[[^]]*\]\s*|INFO:\s+)?"
)
# Answers to probes, progress bars, lines of nothing but drawing, further lines of one message, and
# what vLLM says of the entrypoint's own variables.
_DULL = re.compile(
    r'"GET /(?:health|metrics)|\d+%\||^\W*$|\] (?:\\t| )'
    r"|Unknown vLLM environment variable|Found ulimit of|Triton not available"
)


def telling(lines: Sequence[str]) -> list[str]:
    """The last line that is not dull, without where in vLLM it comes from; none without any."""
    plain = (_HEAD.sub("", line, count=1) for line in reversed(lines) if not _DULL.search(line))
    return [line for line in plain if line.strip()][:1]
