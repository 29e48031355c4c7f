"""Reads the YAML under env/ and recipes mounted by the operator.

Scalars follow the YAML 1.2 core rules, so that `on`, `010`, `12:30` and `2024-01-01` stay text.
Values under an `env:` key are always the text as written. A key given twice is an error.
"""
# Importing pathlib takes longer than reading every file here.
# ruff: noqa: PTH100, PTH110, PTH112, PTH118, PTH120, PTH123

from __future__ import annotations

import os
import re
from typing import Any

import yaml

from .problems import DATA, Problem, Refused

ENV_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "env")

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(_Base):  # type: ignore[misc]
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
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def _pairs(node: Any) -> Any:
    return node.value if isinstance(node, yaml.MappingNode) else ()


def _keep_text(node: Any) -> None:
    """Mark the scalars of `env:`, here and below `roles:`, as text (`0.90` is not 0.9)."""
    for key, value in _pairs(node):
        if key.value == "env":
            for _, scalar in _pairs(value):
                if isinstance(scalar, yaml.ScalarNode) and scalar.tag != _NULL:
                    scalar.tag = _TEXT
        elif key.value == "roles":
            for _, role in _pairs(value):
                _keep_text(role)


def read(path: str) -> Any:
    """The document in a YAML file.

    Raises Refused (65) when the file cannot be read, is not UTF-8, or is not one YAML document.
    """
    loader = None
    try:
        with open(path, "rb") as file:
            loader = _Loader(file.read().decode("utf-8-sig"))
        node = loader.get_single_node()
        if node is None:
            raise yaml.YAMLError("the file is empty")
        _keep_text(node)
        return loader.construct_document(node)
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"not UTF-8 at byte {error.start}"
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        why = f"{error.problem or error.context}{line}"
    except (yaml.YAMLError, ValueError) as error:
        why = str(error).replace("\n", " ")
    except RecursionError:
        why = "nested too deeply, or an anchor holds itself"
    finally:
        if loader is not None:
            loader.dispose()
    fix = "give a readable YAML file in UTF-8"
    raise Refused([Problem("unreadable-file", path, why, fix, exit_code=DATA)])


def path_of(*parts: str) -> str:
    """The path of a file under env/."""
    return os.path.join(ENV_DIR, *parts)


def names(kind: str) -> list[str]:
    """The names of every YAML file under env/<kind>/, at any depth, without `.yaml`."""
    root = path_of(kind)
    found = []
    for folder, _, files in os.walk(root):
        for file in files:
            if file.endswith(".yaml"):
                path = os.path.relpath(os.path.join(folder, file), root)
                found.append(path[: -len(".yaml")].replace(os.sep, "/"))
    return sorted(found)


def is_file(path: str) -> bool:
    """Whether something other than a directory is there to be read."""
    return os.path.exists(path) and not os.path.isdir(path)
