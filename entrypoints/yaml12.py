"""YAML with the scalars of version 1.2, stricter than PyYAML.

`on`, `010`, `12:30` and `2024-01-01` stay text. Values under an `env:` key are always the text as
written. A duplicate key is an error.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


class Loader(_Base):  # type: ignore[misc]
    """Composes nodes whose tags follow YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def _pairs(node: Any) -> Any:
    return node.value if isinstance(node, yaml.MappingNode) else ()


def _keep_text(node: Any) -> None:
    """Mark the scalars of `env:`, here and under `roles:`, as text (`0.90` is not 0.9)."""
    for key, value in _pairs(node):
        if key.value == "env":
            for _, scalar in _pairs(value):
                if isinstance(scalar, yaml.ScalarNode) and scalar.tag != _NULL:
                    scalar.tag = _TEXT
        elif key.value == "roles":
            for _, role in _pairs(value):
                _keep_text(role)


def parse(text: str) -> Any:
    """The one document in a text. Raises ValueError with the reason and the line."""
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ValueError("the file is empty")
        _keep_text(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem or error.context}{line}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error
    except RecursionError as error:
        raise ValueError("nested too deeply, or an anchor holds itself") from error
    finally:
        if loader is not None:
            loader.dispose()
