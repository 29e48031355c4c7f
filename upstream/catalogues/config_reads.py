"""Find the keys that Python sources read from a JSON option, without running them.

`Reader` follows the option's mapping through variables, attributes of `self`, and arguments of
functions and classes. It finds `.get("key", default)`, `["key"]`, `"key" in …`, `f(**mapping)`, and
loops that compare the keys with a class's table of defaults.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

KeyPath = tuple[str, ...]
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+")
GETTERS = ("get", "setdefault", "pop")
COPIES = ("dict", "copy", "deepcopy")
MAX_DEPTH = 12
DEFINED = re.compile(r"^(class|def) (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Ref:
    """A value that is the mapping itself (an empty path), or its part below these keys."""

    path: KeyPath


Value = Ref | str | None


@dataclass
class Reads:
    """The keys that are read. `places`: path → (file, line). `defaults`: path → constant.

    `was`: path → the variable that the key replaces. `strict`: mappings whose unknown keys are
    refused. `open`: mappings that are passed on as a whole: any key may be read.
    `stored`: attribute → the paths that are stored in it.
    """

    places: dict[KeyPath, tuple[str, int]] = field(default_factory=dict)
    defaults: dict[KeyPath, Any] = field(default_factory=dict)
    was: dict[KeyPath, str] = field(default_factory=dict)
    strict: set[KeyPath] = field(default_factory=set)
    open: set[KeyPath] = field(default_factory=set)
    stored: dict[str, set[KeyPath]] = field(default_factory=dict)


@dataclass(frozen=True)
class Class:
    """A class with its methods and base classes' names."""

    file: str
    node: ast.ClassDef

    @property
    def methods(self) -> dict[str, ast.FunctionDef]:
        return {one.name: one for one in self.node.body if isinstance(one, ast.FunctionDef)}

    def is_config(self) -> bool:
        """Whether it is a dataclass of vLLM's with `@config`, which refuses unknown keys."""
        names = (one.func if isinstance(one, ast.Call) else one for one in self.node.decorator_list)
        return any(ast.unparse(one) == "config" for one in names)


class Reader:
    """Find the keys of an option in files. `root`: the attribute or parameter with its mapping.

    `getter`: a method that returns the value of a key. `typed`: the `@config` class of the mapping.
    """

    def __init__(
        self, files: Mapping[str, str], root: str, getter: str = "", typed: str = ""
    ) -> None:
        self.files, self.root, self.getter = files, root, getter
        self.reads = Reads()
        self.attributes: dict[tuple[str, str], Value] = {}
        self.done: set[object] = set()
        self.inner: dict[str, tuple[ast.FunctionDef, dict[str, Value]]] = {}
        self.file = self.owner = ""
        self.depth = 0
        self.defined: dict[tuple[str, str], str] = {}  # kind, name → file
        for path, text in files.items():
            for match in DEFINED.finditer(text):
                self.defined.setdefault((match[1], match[2]), path)
        words = (root, getter) if getter else (root,)
        wanted = [path for path, text in files.items() if any(w in text for w in words)]
        for _ in range(2):  # attributes may be read above the place that sets them
            self.done.clear()
            for path in wanted:
                self._module(path)
        top = self._class(typed)
        if top and top.is_config():
            self._typed((), top)

    def _class(self, name: str) -> Class | None:
        file = self.defined.get(("class", name))
        node = defined(self.files[file], name) if file else None
        return Class(file, node) if file and isinstance(node, ast.ClassDef) else None

    def _module(self, path: str) -> None:
        for node in parsed(self.files[path]).body:
            methods = node.body if isinstance(node, ast.ClassDef) else [node]
            owner = node.name if isinstance(node, ast.ClassDef) else ""
            for one in methods:
                if isinstance(one, ast.FunctionDef):
                    self._function(path, owner, one, {})

    def _function(
        self, file: str, owner: str, node: ast.FunctionDef, given: dict[str, Value]
    ) -> None:
        """Read a function whose parameters have these values."""
        known = (id(node), tuple(sorted((k, repr(v)) for k, v in given.items())))
        if known in self.done or self.depth > MAX_DEPTH:
            return
        self.done.add(known)
        before = self.file, self.owner, self.depth
        self.file, self.owner, self.depth = file, owner, self.depth + 1
        names = [
            one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        ]
        scope: dict[str, Value] = {name: Ref(()) for name in names if name == self.root}
        self._statements(node.body, {**scope, **given})
        self.file, self.owner, self.depth = before

    def _statements(self, body: Iterable[ast.AST], scope: dict[str, Value]) -> None:
        for one in body:
            if isinstance(one, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
                value = self._value(one.value, scope) if one.value else None
                if isinstance(one.value, ast.Dict) and not one.value.keys:
                    continue  # `config = {}` where the option is not given
                for target in one.targets if isinstance(one, ast.Assign) else [one.target]:
                    self._assign(target, value, scope)
                    if one.value:
                        self._store(target, one.value, scope)
            elif isinstance(one, (ast.For, ast.comprehension)):
                self._loop(one, scope)
                self._statements(getattr(one, "body", ()), scope)
                self._statements(getattr(one, "orelse", ()), scope)
            elif isinstance(one, (ast.FunctionDef, ast.Lambda)):
                if isinstance(one, ast.FunctionDef):
                    self.inner[one.name] = one, dict(scope)
                inner = one.body if isinstance(one.body, list) else [one.body]
                self._statements(inner, dict(scope))
            elif isinstance(one, ast.expr):
                self._value(one, scope)
            else:
                for child in ast.iter_child_nodes(one):
                    self._statements([child], scope)

    def _assign(self, target: ast.expr, value: Value, scope: dict[str, Value]) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = value
        elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            key = self.owner, target.attr
            self.attributes[key] = value or self.attributes.get(key)

    def _store(self, target: ast.expr, value: ast.expr, scope: dict[str, Value]) -> None:
        """Record which attribute stores a key's value, also after a converter or a condition."""
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            calls = (one for one in ast.walk(value) if isinstance(one, ast.Call))
            found = next(filter(None, (self._key(one, scope) for one in calls)), None)
            if found:
                self.reads.stored.setdefault(target.attr, set()).add(found)

    def _loop(self, loop: ast.For | ast.comprehension, scope: dict[str, Value]) -> None:
        """`for key, value in mapping.items()`: the keys are those of the class's defaults."""
        source = loop.iter.func if isinstance(loop.iter, ast.Call) else loop.iter
        if isinstance(source, ast.Attribute) and source.attr in ("items", "keys"):
            source = source.value
        over = self._value(source, scope)
        if not isinstance(over, Ref):
            return
        owner = self._class(self.owner)
        tables = list(_tables(owner.node)) if owner else []
        for table in tables:
            self._table(over.path, table)
        if not tables:
            self.reads.open.add(over.path)
        elif any(isinstance(one, ast.Raise) for one in ast.walk(loop)):
            self.reads.strict.add(over.path)

    def _table(self, path: KeyPath, table: ast.Dict) -> None:
        for key, default in zip(table.keys, table.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                self._read((*path, key.value), key, default)

    def _read(self, path: KeyPath, node: ast.AST, default: ast.AST | None = None) -> Ref:
        self.reads.places.setdefault(path, (self.file, getattr(node, "lineno", 0)))
        if isinstance(default, ast.Constant) and default.value is not None:
            self.reads.defaults.setdefault(path, default.value)
        elif isinstance(default, ast.Dict):
            self._table(path, default)
        return Ref(path)

    def _key(self, call: ast.Call, scope: dict[str, Value]) -> KeyPath | None:
        """The path that a call such as `mapping.get("key")` reads."""
        if not (isinstance(call.func, ast.Attribute) and call.args):
            return None
        name = self._quiet(call.args[0], scope)
        if not isinstance(name, str):
            return None
        if self.getter and call.func.attr == self.getter:
            return (name,)
        over = self._quiet(call.func.value, scope) if call.func.attr in GETTERS else None
        return (*over.path, name) if isinstance(over, Ref) else None

    def _quiet(self, node: ast.expr, scope: dict[str, Value]) -> Value:
        """The value of a simple expression, without recording what it reads."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return scope.get(node.id)
        if isinstance(node, ast.Attribute):
            if node.attr == self.root:
                return Ref(())
            if ast.unparse(node.value) == "self":
                return self._attribute(node.attr)
        if isinstance(node, ast.Call):
            path = self._key(node, scope)
            if path:
                return Ref(path)
            if _last(node.func) == "getattr" and len(node.args) > 1:
                return Ref(()) if self._quiet(node.args[1], scope) == self.root else None
            if _last(node.func) in COPIES:
                of = node.args[0] if node.args else getattr(node.func, "value", None)
                return self._quiet(of, scope) if of is not None else None
        if isinstance(node, (ast.BoolOp, ast.IfExp)):
            options = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
            found = (self._quiet(one, scope) for one in options)
            return next((one for one in found if isinstance(one, Ref)), None)
        if isinstance(node, ast.Subscript) and isinstance(
            over := self._quiet(node.value, scope), Ref
        ):
            name = self._quiet(node.slice, scope)
            return Ref((*over.path, name)) if isinstance(name, str) else None
        if isinstance(node, ast.Dict):
            merged = [v for k, v in zip(node.keys, node.values, strict=True) if k is None]
            found = (self._quiet(one, scope) for one in merged)
            return next((one for one in found if isinstance(one, Ref)), None)
        return None

    def _attribute(self, name: str) -> Value:
        owner: str = self.owner
        for _ in range(MAX_DEPTH):
            if (owner, name) in self.attributes:
                return self.attributes[owner, name]
            cls = self._class(owner)
            if not cls or not cls.node.bases:
                return None
            owner = _last(cls.node.bases[0])
        return None

    def _value(self, node: ast.expr, scope: dict[str, Value]) -> Value:
        """Record what an expression reads, and return its value."""
        for one in ast.walk(node):
            if isinstance(one, ast.Call):
                path = self._key(one, scope)
                if path:
                    self._read(path, one, one.args[1] if len(one.args) > 1 else None)
                else:
                    self._call(one, scope)
            elif isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Load):
                found = self._quiet(one, scope)
                if isinstance(found, Ref):
                    self._read(found.path, one)
            elif isinstance(one, ast.Compare) and isinstance(one.ops[0], (ast.In, ast.NotIn)):
                name = self._quiet(one.left, scope)
                over = self._quiet(one.comparators[0], scope)
                if isinstance(name, str) and isinstance(over, Ref):
                    self._read((*over.path, name), one)
            elif isinstance(one, ast.comprehension):
                self._loop(one, scope)
        if isinstance(node, ast.Attribute) or not isinstance(node, ast.Constant):
            return self._quiet(node, scope)
        return node.value if isinstance(node.value, str) else None

    def _call(self, call: ast.Call, scope: dict[str, Value]) -> None:
        """Follow the mapping into a function or a class."""
        given = [self._quiet(one, scope) for one in call.args if not isinstance(one, ast.Starred)]
        named = {one.arg: self._quiet(one.value, scope) for one in call.keywords}
        if _last(call.func) in self.inner and isinstance(call.func, ast.Name):
            node, around = self.inner[call.func.id]
            names = [one.arg for one in node.args.args]
            bound_to = {**around, **dict(zip(names, given, strict=False))}
            self._function(self.file, self.owner, node, bound_to)
            return
        if not any(isinstance(one, Ref) for one in (*given, *named.values())):
            return
        self._replaced(call, given)
        found = self._callee(call.func)
        if found is None:
            self._passed_on(call, given, named)
            return
        file, owner, node, bound = found
        names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)][bound:]
        scope = dict(zip(names, given, strict=False))
        scope |= {name: value for name, value in named.items() if name}
        whole = named.get(None)  # f(**mapping)
        if isinstance(whole, Ref):
            self._spread(file, node, whole.path, [*names, *(o.arg for o in node.args.kwonlyargs)])
            scope |= {name: Ref((*whole.path, name)) for name in names}
            if node.args.kwarg:
                scope[node.args.kwarg.arg] = whole
            else:
                self.reads.strict.add(whole.path)
        self._function(file, owner, node, scope)

    def _spread(
        self, file: str, node: ast.FunctionDef, path: KeyPath, names: Iterable[str]
    ) -> None:
        """`f(**mapping)` reads a key for each parameter."""
        before, self.file = self.file, file
        arguments = [*node.args.args, *node.args.kwonlyargs]
        values = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
        by_name = dict(zip([one.arg for one in arguments][-len(values) :], values, strict=False))
        for name in names:
            self._read((*path, name), node, by_name.get(name))
        self.file = before

    def _replaced(self, call: ast.Call, given: list[Value]) -> None:
        """`f(mapping, "key", "VARIABLE", …)`: the key replaces the variable."""
        for over, key, variable in zip(given, given[1:], given[2:], strict=False):
            named = isinstance(key, str) and isinstance(variable, str)
            if isinstance(over, Ref) and named and VARIABLE.fullmatch(str(variable)):
                path = (*over.path, str(key))
                self.reads.was.setdefault(path, str(variable))
                self._read(path, call)

    def _passed_on(
        self, call: ast.Call, given: list[Value], named: Mapping[str | None, Value]
    ) -> None:
        """Mark a mapping below the root as open if something unknown receives it."""
        if _last(call.func) in ("isinstance", "bool", "len", "str", "info", "warning", *COPIES):
            return
        for one in (*given, *named.values()):
            if isinstance(one, Ref):
                self.reads.open.add(one.path)

    def _callee(self, func: ast.expr) -> tuple[str, str, ast.FunctionDef, int] | None:
        """The file, class, function and number of bound parameters of a call's target."""
        name = _last(func)
        if isinstance(func, ast.Attribute) and ast.unparse(func.value) in ("self", "cls"):
            return self._method(self.owner, name)
        if isinstance(func, ast.Attribute) and self._class(_last(func.value)):
            return self._method(_last(func.value), name)
        if self._class(name):
            return self._method(name, "__init__")
        file = self.defined.get(("def", name)) if isinstance(func, ast.Name) else None
        node = defined(self.files[file], name) if file else None
        return (file, "", node, 0) if file and isinstance(node, ast.FunctionDef) else None

    def _method(self, owner: str, name: str) -> tuple[str, str, ast.FunctionDef, int] | None:
        first = owner
        for _ in range(MAX_DEPTH):
            cls = self._class(owner)
            if cls is None:
                return None
            if name in cls.methods:
                node = cls.methods[name]
                static = any(ast.unparse(one) == "staticmethod" for one in node.decorator_list)
                return cls.file, first, node, 0 if static else 1
            if not cls.node.bases:
                return None
            owner = _last(cls.node.bases[0])
        return None

    def _typed(self, path: KeyPath, cls: Class) -> None:
        """The fields of a `@config` class, and those of the classes of its fields."""
        before, self.file = self.file, cls.file
        self.reads.strict.add(path)
        for one in cls.node.body:
            if not (isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)):
                continue
            if one.target.id.startswith("_") or "ClassVar" in ast.unparse(one.annotation):
                continue
            name = one.target.id
            self._read((*path, name), one, one.value)
            inner = self._class(ast.unparse(one.annotation).split(" ")[0])
            if inner and inner.is_config():
                self._typed((*path, name), inner)
        self.file = before


def _tables(cls: ast.ClassDef) -> Iterator[ast.Dict]:
    """The tables of defaults in a class."""
    for one in cls.body:
        if isinstance(one, (ast.Assign, ast.AnnAssign)) and isinstance(one.value, ast.Dict):
            target = one.targets[0] if isinstance(one, ast.Assign) else one.target
            if "default" in ast.unparse(target).lower():
                yield one.value


def _last(node: ast.expr) -> str:
    """`get` for `a.b.get`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def defined(text: str, name: str) -> ast.stmt | None:
    """A class or function of a module."""
    return next((one for one in parsed(text).body if getattr(one, "name", "") == name), None)


@lru_cache(maxsize=512)
def parsed(text: str) -> ast.Module:
    """Parse the text; an empty module if it is not valid Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Module([], [])
