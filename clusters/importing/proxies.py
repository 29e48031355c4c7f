"""Reads the command that starts a proxy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from clusters.importing import TABLES
from clusters.importing.layout import Layout
from clusters.importing.scripts import Script
from entrypoints.inputs.arguments import parse, render, value_of
from entrypoints.launch.proxy import PORT

# Scripts of vllm-ascend. Their servers follow from the cluster.
_EXAMPLES = (
    "load_balance_proxy_server_example.py",
    "load_balance_proxy_layerwise_server_example.py",
)
_DERIVED = frozenset(TABLES["derived_by_proxy"])
# Flags that the entrypoint sets itself.
_ALWAYS = {"--host": ("0.0.0.0",), "--kv-connector": ("nixl",)}


def proxy(script: Script, layout: Layout) -> Mapping[str, Any] | None:
    """`proxy:` of the cluster file, or None for a program that is not in the image."""
    program = PurePath(script.words[0]).name
    if program != "vllm-router" and program not in _EXAMPLES:
        return None
    findings: list[Any] = []
    flags = parse(script.words[1:], {}, findings)
    port = value_of({flag.name: (flag,) for flag in flags}, "--port") or ""
    kept = [
        flag
        for flag in flags
        if flag.name not in _DERIVED and _ALWAYS.get(flag.name) != flag.values
    ]
    host = next((flag.values for flag in kept if flag.name == "--host"), ())
    sides = [group for group in layout.groups if group.role == "prefill"]
    first = (sides or layout.groups)[0].machines[0]
    machine = next((m for m in layout.machines if m.address in host), first)
    kept = [flag for flag in kept if flag.name != "--host" or flag.values == (machine.address,)]
    result: dict[str, Any] = {"node": machine.name}
    if program != "vllm-router":
        result["kind"] = "example"
    result["port"] = int(port) if port.isdigit() else PORT
    if kept:
        result["arguments"] = render({f"{i}": (flag,) for i, flag in enumerate(kept)})
    return result
