"""What a check says, read from the source that says it.

A message is text with values in it: `f"{port} lies in {first}-{last}"` is shown as `… lies in …-…`.
What is constant where the check is defined (`{FLAG}`, or the name that a closure holds) is shown.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

UNKNOWN = "…"
_MISSING = object()


@dataclass(frozen=True)
class Call:
    """A call in a function. `scope` says what its names stand for."""

    node: ast.Call
    name: str
    scope: Scope

    def argument(self, index: int, keyword: str) -> str:
        """The text of an argument, empty where it is not given."""
        return next(iter(self.arguments(index, keyword)), "")

    def arguments(self, index: int, keyword: str) -> list[str]:
        """Every text that an argument can have: it may be assigned in several branches."""
        given = self._given(index, keyword)
        return [] if given is None else self.scope.texts(given)

    def value(self, index: int, keyword: str) -> Any:
        """The value of an argument where it is constant, else None."""
        given = self._given(index, keyword)
        found = _MISSING if given is None else self.scope.value(given)
        return None if found is _MISSING else found

    def word(self, index: int) -> str:
        """An argument as it is written."""
        return ast.unparse(self.node.args[index])

    def given(self, index: int, keyword: str) -> bool:
        return self._given(index, keyword) is not None

    def _given(self, index: int, keyword: str) -> ast.expr | None:
        named = {one.arg: one.value for one in self.node.keywords}
        if keyword in named:
            return named[keyword]
        return self.node.args[index] if index < len(self.node.args) else None


@dataclass(frozen=True)
class Scope:
    """What the names in a call stand for.

    `known` are values, `assigned` what the lines before the call make of a name: several texts
    where it is assigned in several branches, each with what is added to it later.
    """

    known: Mapping[str, Any]
    assigned: Mapping[str, list[list[ast.expr]]]

    def value(self, node: ast.expr) -> Any:
        """What an expression of names, keys and attributes stands for, if that is constant."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            if node.id in self.assigned:
                those = self.assigned[node.id]
                single = len(those) == 1 and len(those[0]) == 1
                return self._without(node.id).value(those[0][0]) if single else _MISSING
            return self.known.get(node.id, _MISSING)
        if isinstance(node, ast.Subscript):
            container, key = self.value(node.value), self.value(node.slice)
            if isinstance(container, Mapping) and key in container:
                return container[key]
        if isinstance(node, ast.Attribute):
            return getattr(self.value(node.value), node.attr, _MISSING)
        return _MISSING

    def texts(self, node: ast.expr) -> list[str]:
        """The texts that an expression can come to."""
        if isinstance(node, ast.IfExp):
            return [*self.texts(node.body), *self.texts(node.orelse)]
        if isinstance(node, ast.Name) and node.id in self.assigned:
            before = self._without(node.id)
            return [
                text + "".join(map(before._text, added))
                for first, *added in self.assigned[node.id]
                for text in before.texts(first)
            ]
        return [self._text(node)]

    def _without(self, name: str) -> Scope:
        """What stands where a name is assigned: it may be made of what it was before."""
        return Scope(self.known, {one: of for one, of in self.assigned.items() if one != name})

    def _text(self, node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(map(self._text, node.values))
        if isinstance(node, ast.FormattedValue):
            inner = node.value
            if isinstance(inner, ast.IfExp):  # one of several words, or a word that may be left out
                return UNKNOWN if self._text(inner.orelse) else ""
            return UNKNOWN if isinstance(inner, ast.BinOp) else self._text(inner)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._text(node.left) + self._text(node.right)
        found = self.value(node)
        return str(found) if isinstance(found, (str, int)) else UNKNOWN


def calls(function: Callable[..., Any], known: Mapping[str, Any]) -> Iterator[Call]:
    """Every call in a function, and under the name `return` every tuple that it returns.

    `known`: what its parameters stand for, as far as that is known.
    """
    names = inspect.getclosurevars(function)
    node = _definitions(inspect.getmodule(function))[function.__code__.co_firstlineno]
    yield from _calls(node, {**names.globals, **names.nonlocals, **known})


def calls_in(module: ModuleType) -> Iterator[Call]:
    """Every call in a module, in the order of its lines."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                yield from _calls(inner, vars(module))
        else:
            yield from _calls(node, vars(module))


# Which way was taken to a line: each statement with branches on the way, its branch, and whether
# that branch leaves the function or the loop.
_Way = tuple[tuple[int, str, bool], ...]


@dataclass(frozen=True)
class _Assigned:
    name: str
    value: ast.expr
    way: _Way
    line: int
    adds: bool = False


def _calls(node: ast.AST, known: Mapping[str, Any]) -> Iterator[Call]:
    assigned: list[_Assigned] = []
    found: list[tuple[ast.Call, _Way]] = []
    for one, way in _walk(node, ()):
        if isinstance(one, ast.Call):
            found.append((one, way))
        elif isinstance(one, ast.Return) and isinstance(one.value, ast.Tuple):
            made = ast.Call(ast.Name("return"), one.value.elts, [])
            found.append((ast.copy_location(made, one), way))
        elif isinstance(one, ast.Assign):
            for target in one.targets:
                for name, value in _pairs(target, one.value):
                    assigned.append(_Assigned(name, value, way, one.lineno))
        elif isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Name):
            assigned.append(_Assigned(one.target.id, one.value, way, one.lineno, adds=True))
    for call, way in sorted(found, key=lambda pair: (pair[0].lineno, pair[0].col_offset)):
        before = [one for one in assigned if one.line < call.lineno and _meet(one.way, way)]
        yield Call(call, ast.unparse(call.func), Scope(known, _standing(before, way)))


def _standing(before: list[_Assigned], way: _Way) -> dict[str, list[list[ast.expr]]]:
    """What names stand for after these lines: what surely runs later replaces what was before."""
    found: dict[str, list[tuple[_Way, list[ast.expr]]]] = {}
    for one in sorted(before, key=lambda one: one.line):
        those = found.setdefault(one.name, [])
        if one.adds:
            for taken, parts in those:
                if _meet(taken, one.way):
                    parts.append(one.value)
            continue
        if one.way == way[: len(one.way)]:
            those.clear()
        those.append((one.way, [one.value]))
    return {name: [parts for _, parts in those] for name, those in found.items() if those}


def _meet(one: _Way, other: _Way) -> bool:
    """Whether what `one` does still stands at `other`: both run, and nothing was left between."""
    ways = {statement: branch for statement, branch, _ in other}
    return all(
        ways.get(statement, "" if leaves else branch) == branch for statement, branch, leaves in one
    )


_LEAVES = (ast.Return, ast.Raise, ast.Continue)


def _walk(node: ast.AST, way: _Way) -> Iterator[tuple[ast.AST, _Way]]:
    yield node, way
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        inner = way
        if isinstance(node, (ast.If, ast.For, ast.Try)) and isinstance(value, list) and value:
            inner = (*way, (id(node), name, isinstance(value[-1], _LEAVES)))
        for child in children:
            if isinstance(child, ast.AST):
                yield from _walk(child, inner)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Names and what each is given; of a value that is no tuple, the parts are not known."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple):
        whole = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
        values = value.elts if isinstance(value, ast.Tuple) and whole else []
        for index, part in enumerate(target.elts):
            if isinstance(part, ast.Name):
                yield part.id, values[index] if whole else ast.Name("?")


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


@cache
def _definitions(module: ModuleType | None) -> Mapping[int, ast.FunctionDef]:
    assert module is not None
    found = (one for one in ast.walk(_tree(module)) if isinstance(one, ast.FunctionDef))
    return {one.lineno: one for one in found}
