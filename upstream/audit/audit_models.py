"""Audit the shapes in env/models.yaml against megatron-bridge's code for the same models."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import yaml as reading
from upstream.audit.audit_result import AuditResult, compared, contradicted, unchecked
from upstream.audit.citations import Library, Place, places
from upstream.dialect import python_source
from upstream.sources import Tree

FILE = "env/models.yaml"
PACKAGE = "megatron-bridge"
# Keys of config.json → the fields of a provider class.
FIELDS = {
    "num_hidden_layers": "num_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_hidden_size",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_query_groups",
    "head_dim": "kv_channels",
    "num_experts": "num_moe_experts",
    "n_routed_experts": "num_moe_experts",
    "moe_intermediate_size": "moe_ffn_hidden_size",
    "vocab_size": "vocab_size",
}
NO_CLASS = f"its source names no class of {PACKAGE}"


def audit(root: Path, library: Library) -> Iterator[AuditResult]:
    """Audit each number of each model whose source names a class of megatron-bridge."""
    for entry in reading.document(root / FILE)["models"]:
        place = _place(str(entry.get("source", "")))
        tree = library.of(PACKAGE).get(place.first) if place else None
        name, config = entry["name"], entry["config"]
        if not place or not tree:
            yield unchecked(FILE, f"models.{name}", name, NO_CLASS)
            continue
        fields = _fields(tree, place)
        if not fields:
            where = tree.cite(place.path)
            yield contradicted(FILE, f"models.{name}.source", name, where, "has no such class")
        yield from _compare(name, config, fields, tree, place)


def _compare(
    name: str,
    config: Mapping[str, Any],
    fields: Mapping[str, tuple[object, int]],
    tree: Tree,
    place: Place,
) -> Iterator[AuditResult]:
    for key, value in config.items():
        field = FIELDS.get(key, "")
        if key == "num_key_value_heads" and field not in fields:
            field = "num_attention_heads"  # latent attention has a key for each head
        if field in fields:
            there, line = fields[field]
            source = tree.cite(place.path, line)
            yield compared(FILE, f"models.{name}.config.{key}", value, there, source)


def _place(source: str) -> Place | None:
    for segment in source.split("; "):
        for place in places(segment):
            if place.package == PACKAGE and place.symbols:
                return place
    return None


def _fields(tree: Tree, place: Place) -> dict[str, tuple[object, int]]:
    """The constants of a class and of its bases in the same file: field → (value, line)."""
    module = python_source.parsed(tree.files.get(place.path, ""))
    classes = {one.name: one for one in ast.walk(module) if isinstance(one, ast.ClassDef)}
    found: dict[str, tuple[object, int]] = {}
    waiting = [place.symbols[0]]
    while waiting:
        own = classes.get(waiting.pop(0))
        if own is None:
            continue
        for node in own.body:
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(node.value, ast.Constant)
            ):
                found.setdefault(node.target.id, (node.value.value, node.lineno))
        waiting += [base.id for base in own.bases if isinstance(base, ast.Name)]
    return found
