"""What is typed wrong on the command line is told in words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import ROOT


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "http://127.0.0.1:9", "--timeout", "abc"),
        ("verify", "http://127.0.0.1:9", "--timeout=abc"),
        ("cluster.up", "clusters/examples/single.yaml", "--timeout", "abc"),
    ],
    ids=" ".join,
)
def test_a_value_that_is_no_number(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "error: --timeout: 'abc' is no number; see --help"
