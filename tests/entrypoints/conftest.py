"""A machine whose network is known, and commands that are recorded instead of run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from entrypoints.launch.network import Host

RECORD = """#!{python}
import json, os, sys
with open({record!r}, "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ)}}, file)
"""


@pytest.fixture
def host() -> Host:
    """eth0 10.0.0.1, eth1 192.168.0.1; everything in 10.* is reached through eth0."""
    addresses = [("lo", "127.0.0.1"), ("eth0", "10.0.0.1"), ("eth1", "192.168.0.1")]
    return Host(lambda: addresses, lambda to: "10.0.0.1" if to.startswith("10.") else None)


class Recorder:
    """A `vllm` in a directory of its own, which writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.record = folder / "record.json"
        script = self.bin / "vllm"
        script.write_text(RECORD.format(python=sys.executable, record=str(self.record)))
        script.chmod(0o755)

    @property
    def path(self) -> str:
        return f"{self.bin}:/usr/bin:/bin"

    def call(self) -> dict[str, Any]:
        recorded: dict[str, Any] = json.loads(self.record.read_text())
        return recorded


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)
