"""Edit a YAML text at a path; keep everything else, comments included."""

from __future__ import annotations

import json
from typing import Any

import yaml

from clusters.model import Path


def set_value(text: str, path: Path, value: Any) -> str:
    """Return the text with a value at a path; add the path's missing parts."""
    *parent, key = path
    mapping = _node(text, tuple(parent))
    if not isinstance(mapping, yaml.MappingNode):
        if not parent:
            return f"{key}: {_flow(value)}\n"
        return set_value(text, tuple(parent), {key: value})
    for name, node in mapping.value:
        if name.value == str(key):
            end = _end(text, node)
            start = name.end_mark.index + text[name.end_mark.index :].index(":") + 1
            return f"{text[:start]} {_flow(value)}{text[end:]}"
    return _added(text, mapping, str(key), value)


def remove(text: str, path: Path) -> str:
    """Return the text without the key at a path, and without mappings that become empty."""
    *parent, key = path
    mapping = _node(text, tuple(parent))
    if not isinstance(mapping, yaml.MappingNode):
        return text
    at = next((i for i, (name, _) in enumerate(mapping.value) if name.value == str(key)), None)
    if at is None:
        return text
    if len(mapping.value) == 1 and parent:
        return remove(text, tuple(parent))
    name, node = mapping.value[at]
    start, end = name.start_mark.index, _end(text, node)
    if mapping.flow_style:
        if at + 1 < len(mapping.value):
            return text[:start] + text[mapping.value[at + 1][0].start_mark.index :]
        return text[: _end(text, mapping.value[at - 1][1])] + text[end:]
    start = text.rindex("\n", 0, start) + 1 if "\n" in text[:start] else 0
    line_end = text.find("\n", end)
    return text[:start] + (text[line_end + 1 :] if line_end >= 0 else "")


def has(text: str, path: Path) -> bool:
    """Whether the text has a value at the path."""
    return _node(text, path) is not None


def _added(text: str, mapping: yaml.MappingNode, key: str, value: Any) -> str:
    entry = f"{key}: {_flow(value)}"
    if mapping.flow_style:
        end = mapping.end_mark.index - 1
        comma = ", " if mapping.value else ""
        return text[:end].rstrip() + comma + entry + text[end:]
    name, last = mapping.value[-1]
    end = text.find("\n", _end(text, last))
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{' ' * name.start_mark.column}{entry}{text[end:]}"


def _node(text: str, path: Path) -> yaml.Node | None:
    node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    for part in path:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part] if part < len(node.value) else None
        else:
            return None
    return node


def _end(text: str, node: yaml.Node) -> int:
    """The end of a value. A block ends with its last value, not with what follows."""
    end = int(node.end_mark.index)
    if isinstance(node, yaml.ScalarNode):  # a block's mark is where the next key starts
        return len(text[:end].rstrip()) if node.style in ("|", ">") else end
    if getattr(node, "flow_style", True):
        return end
    last = node.value[-1]
    return _end(text, last[1] if isinstance(last, tuple) else last)


def _flow(value: Any) -> str:
    """A value on one line, as people write it: `{a: 1, b: [x, y]}`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        try:
            plain = yaml.safe_load(f"[{value}]") == [value]
        except yaml.YAMLError:
            plain = False
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
