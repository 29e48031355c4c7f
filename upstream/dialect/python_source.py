"""Extract facts from upstream's Python files by parsing them, without running them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from upstream.catalogues.variables import default_of
from upstream.catalogues.vllm_parser import READS
from upstream.sources import Tree

# `# 0: off` and `# 0, or not set: off`: envs.py lists the values of a variable in comments.
LISTED = re.compile(r"\s*#\s*(\d+)(?:,[^:]*)?:")
FLAG = re.compile(r"--[a-z][a-z0-9_-]*")
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+")
TABLES = ("env_variables", "environment_variables")  # vllm-ascend's, vLLM's
ARGUMENTS = r"vllm/engine/arg_utils\.py|vllm/entrypoints/.*(cli_args|serve)\.py"


@dataclass(frozen=True)
class Variable:
    """A variable of envs.py. `default`: as text. `values`: empty if any value is valid."""

    name: str
    default: str | None
    values: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class Default:
    """A default value and its source."""

    value: Any
    source: str


@lru_cache(maxsize=64)
def parsed(text: str) -> ast.Module:
    """Parse the text; an empty module if it is not valid Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def variables(tree: Tree, path: str) -> dict[str, Variable]:
    """The variables of `{"NAME": lambda: os.getenv("NAME", DEFAULT), …}`, by name."""
    text = tree.files.get(path, "")
    found = {}
    for node in parsed(text).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)):
            continue
        if ast.unparse(node.target) not in TABLES:
            continue
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                source = tree.cite(path, key.lineno)
                values = _values(value, text.splitlines(), key.lineno)
                found[key.value] = Variable(key.value, default_of(value), values, source)
    return found


def _values(node: ast.expr, lines: list[str], line: int) -> tuple[int, ...]:
    called = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    if {"bool", "int"} <= called:
        return (0, 1)
    if "int" not in called:
        return ()
    listed = []
    for above in reversed(lines[: line - 1]):
        if not above.lstrip().startswith("#"):
            break
        if match := LISTED.match(above):
            listed.append(int(match[1]))
    return tuple(sorted(listed)) if len(listed) > 1 else ()


def reads(tree: Tree, names: Iterable[str]) -> dict[str, str]:
    """The variables among `names` that a Python file reads → citation of the first such place."""
    wanted, found = set(names), {}
    for path in tree.matching(r"vllm(_ascend)?/.*\.py"):
        text = tree.files[path]
        if not any(name in text for name in wanted):
            continue
        for match in READS.finditer(text):
            name = match[1] or match[2]
            if name in wanted and name not in found:
                found[name] = tree.cite(path, text.count("\n", 0, match.start()) + 1)
    return found


def connectors(tree: Tree, path: str) -> dict[str, str]:
    """The names that a file registers with KVConnectorFactory → citation."""
    found: dict[str, str] = {}
    for call in _calls(tree.files.get(path, ""), "register_connector"):
        if call.args and isinstance(call.args[0], ast.Constant):
            found.setdefault(str(call.args[0].value), tree.cite(path, call.lineno))
    return found


def config_keys(tree: Tree, path: str) -> dict[str, tuple[str, str]]:
    """Variable → (the key of additional_config that replaces it, citation).

    Parses `_get_config_value(additional_config, "key", "VARIABLE", …)`; if another mapping comes
    first, as in `_get_config_value(scheduler_config, additional_config, "key", …)`, it has the key.
    """
    found = {}
    for call in _calls(tree.files.get(path, ""), "_get_config_value"):
        words = [str(one.value) for one in call.args if isinstance(one, ast.Constant)]
        variable = next(filter(VARIABLE.fullmatch, words), None)
        if variable and words[0] != variable:
            where = ast.unparse(call.args[0])
            key = words[0] if where == "additional_config" else f"{where}.{words[0]}"
            found[variable] = (key, tree.cite(path, call.lineno))
    return found


def config_fields(tree: Tree, path: str) -> dict[str, Variable]:
    """The fields `name: bool = True` and `name: int = 0` of classes, and `.get("name", False)`.

    The values of a number are those that it is compared with: `x not in (0, 1)`, `x == 2`.
    """
    module = parsed(tree.files.get(path, ""))
    compared: dict[str, set[int]] = {}
    for one in ast.walk(module):
        if isinstance(one, ast.Compare):
            name = ast.unparse(one.left).rpartition(".")[2]
            compared.setdefault(name, set()).update(_numbers(one.comparators))
    found: dict[str, Variable] = {}
    for name, default, line in _defaults(module):
        values = (0, 1) if isinstance(default, bool) else tuple(sorted(compared.get(name, ())))
        found.setdefault(name, Variable(name, str(int(default)), values, tree.cite(path, line)))
    return found


def _defaults(module: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Name, default (a bool or a number) and line: fields of classes, then arguments of `.get`."""
    taken = []
    for one in ast.walk(module):
        if isinstance(one, ast.AnnAssign) and isinstance(one.value, ast.Constant):
            if isinstance(one.value.value, int):
                yield ast.unparse(one.target), one.value.value, one.lineno
        elif isinstance(one, ast.Call) and ast.unparse(one.func).endswith(".get"):
            words = [arg.value for arg in one.args if isinstance(arg, ast.Constant)]
            if len(words) == 2 and isinstance(words[0], str) and isinstance(words[1], int):
                taken.append((words[0], words[1], one.lineno))
    yield from taken


def _numbers(nodes: Iterable[ast.expr]) -> Iterator[int]:
    for node in nodes:
        parts = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
        for part in parts:
            if isinstance(part, ast.Constant) and type(part.value) is int:
                yield part.value


def flags(tree: Tree) -> dict[str, str]:
    """The flags, without dashes, that vLLM's argument files add → citation."""
    found: dict[str, str] = {}
    for path in tree.matching(ARGUMENTS):
        text = tree.files[path]
        for name, line in _added(text):
            found.setdefault(name.removeprefix("--").replace("_", "-"), tree.cite(path, line))
        for cls in parsed(text).body:  # whose fields become flags in a loop
            if isinstance(cls, ast.ClassDef) and "FrontendArgs" in cls.name:
                for name, node in _fields(cls):
                    found.setdefault(name.replace("_", "-"), tree.cite(path, node.lineno))
    return found


@lru_cache(maxsize=64)
def _added(text: str) -> tuple[tuple[str, int], ...]:
    """The flags of `add_argument("--flag", …)`, and of `("--flag", type)` tuples for a loop."""
    found = []
    for node in ast.walk(parsed(text)):
        words: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument"):
            words = node.args
        elif isinstance(node, ast.Tuple):
            words = node.elts[:1]
        for word in words:
            if isinstance(word, ast.Constant) and FLAG.fullmatch(str(word.value)):
                found.append((str(word.value), word.lineno))
    return tuple(found)


def field(tree: Tree, path: str, cls: str, name: str) -> Default | None:
    """The default of a class's field: `name: T = 1` or `= Field(default=1, …)`."""
    for node in parsed(tree.files.get(path, "")).body:
        if not (isinstance(node, ast.ClassDef) and node.name == cls):
            continue
        for one, assigned in _fields(node):
            if one == name and assigned.value is not None:
                return _constant(assigned.value, tree.cite(path, assigned.lineno))
    return None


def _fields(cls: ast.ClassDef) -> Iterator[tuple[str, ast.AnnAssign]]:
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def _constant(node: ast.expr, source: str) -> Default | None:
    if isinstance(node, ast.Constant):
        return Default(node.value, source)
    for keyword in node.keywords if isinstance(node, ast.Call) else ():
        if keyword.arg == "default" and isinstance(keyword.value, ast.Constant):
            return Default(keyword.value.value, source)
    return None


def _calls(text: str, name: str) -> Iterator[ast.Call]:
    if name in text:
        for node in ast.walk(parsed(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
                yield node


def conditions(tree: Tree, path: str, test: str) -> Iterator[ast.If]:
    """The `if` statements whose condition unparses to `test`."""
    for node in ast.walk(parsed(tree.files.get(path, ""))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == test:
            yield node


def raises(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Raise) for one in ast.walk(node))


def defaults(tree: Tree) -> dict[str, Default]:
    """Field of EngineArgs → its default: a constant, or that of a configuration class.

    `async_scheduling: bool = SchedulerConfig.async_scheduling` has SchedulerConfig's default.
    Computed defaults are left out.
    """
    path = "vllm/engine/arg_utils.py"
    found: dict[str, Default] = {}
    configs = _configs(tree)
    for cls in parsed(tree.files.get(path, "")).body:
        if not (isinstance(cls, ast.ClassDef) and cls.name == "EngineArgs"):
            continue
        for name, node in _fields(cls):
            value = node.value
            if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
                default = configs.get((value.value.id, value.attr))
            else:
                default = _constant(value, tree.cite(path, node.lineno)) if value else None
            if default is not None and default.value is not None:
                found[name] = default
    return found


def _configs(tree: Tree) -> dict[tuple[str, str], Default]:
    """(class, field) of vllm/config → its default, if that is a constant."""
    found = {}
    for path in tree.matching(r"vllm/config/\w+\.py"):
        for cls in parsed(tree.files[path]).body:
            if isinstance(cls, ast.ClassDef):
                for name, node in _fields(cls):
                    if node.value and (
                        default := _constant(node.value, tree.cite(path, node.lineno))
                    ):
                        found[cls.name, name] = default
    return found
