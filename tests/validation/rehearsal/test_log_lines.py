"""Which of a server's last lines is shown."""

from __future__ import annotations

import pytest

from validation.rehearsal.log_lines import last_informative

HEAD = "(EngineCore pid=77) INFO 11-26 02:24:52 [nixl_utils.py:72] "


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([HEAD + "NIXL is available"], ["NIXL is available"]),
        (["(Worker_DP1 pid=9) WARNING 11-26 02:24:52 [a.py:1] slow"], ["slow"]),
        (
            [HEAD + "loaded", '(APIServer pid=1) INFO: 1.2.3.4:5 - "GET /health HTTP/1.1" 200 OK'],
            ["loaded"],
        ),
        ([HEAD + "loading", "Loading safetensors: 100%|####| 1/1"], ["loading"]),
        ([HEAD + "OpenMP settings", HEAD + r"\treserved_cpus=[]"], ["OpenMP settings"]),
        (
            ["wait: 5 s left; the leader", HEAD + " █▄█▀", "(APIServer pid=1)"],
            ["wait: 5 s left; the leader"],
        ),
        (
            ["(APIServer pid=9) INFO:     Waiting for application startup."],
            ["Waiting for application startup."],
        ),
        (
            ["recorded vllm: ready", HEAD + "Unknown vLLM environment variable detected: X"],
            ["recorded vllm: ready"],
        ),
        ([], []),
        ([""], []),
    ],
)
def test_the_line_that_tells_most(lines: list[str], told: list[str]) -> None:
    assert last_informative(lines) == told
