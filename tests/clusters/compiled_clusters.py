"""Clusters from text, compiled, and what is shown of them against files in golden/."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

from clusters.checks import checked
from clusters.deployment import Deployment
from clusters.file import read
from tests import ROOT

EXAMPLES = ROOT / "clusters" / "examples"
GOLDEN = Path(__file__).parent / "golden"


def compiled(text: str) -> Deployment:
    """The deployment, with every finding about it."""
    return checked(read.read_text("cluster.yaml", text))


def example(name: str, *changes: tuple[str, str]) -> Deployment:
    """An example with texts replaced, each of which is there."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return compiled(text)


def large(prefills: int, decodes: int) -> Deployment:
    """A proxy, prefill instances of one node, decode instances of two."""
    return compiled(large_text(prefills, decodes))


def large_text(prefills: int, decodes: int) -> str:
    names = [f"node{n}" for n in range(1 + prefills + 2 * decodes)]
    nodes = (f"  {name}: 10.0.{n // 250}.{n % 250 + 1}" for n, name in enumerate(names))
    return "\n".join(
        (
            "name: large",
            "release: v0.13.0rc1",
            "platform: a3",
            "nic: eth0",
            "recipe: qwen3-235b-a22b-w8a8/pd-3node-a3",
            "ports: {kv: 36000}",
            "nodes:",
            *nodes,
            "instances:",
            f"  prefill: {{nodes: [{', '.join(names[1 : prefills + 1])}], replicas: {prefills}}}",
            f"  decode: {{nodes: [{', '.join(names[prefills + 1 :])}], replicas: {decodes}}}",
            "proxy: {node: node0}",
        )
    )


def check_golden(name: str, text: str) -> None:
    """The text is that of golden/NAME."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    golden = path.read_text() if path.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(golden.splitlines(), text.splitlines(), name, "shown", lineterm="")
    )
    assert not difference, f"{difference}\nif it is meant: UPDATE_GOLDEN=1 pytest tests/clusters"


def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command as people type it."""
    command = [sys.executable, "-m", "invoke", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
