"""The benchmark of the layers: the copy of the project that its builds run in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.layers import ours


def test_the_copy_of_the_project_can_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has every package that `invoke build` imports, and takes none from the checkout."""
    (tmp_path / "roots").mkdir()
    monkeypatch.setattr(ours, "ROOTS", tmp_path / "roots")
    copy = tmp_path / "project"
    ours.Ours(copy, "localhost:1", "amd64", "v0.13.0rc1", tmp_path / "logs").fresh()
    build = ("build", "--platform=a3", "--base=stand-in", "--arch=amd64", "--dry-run")
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks.layers.cli", *build],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert "v0.13.0rc1-a3-standin" in answer.stdout
