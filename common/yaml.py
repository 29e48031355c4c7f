"""Read YAML that people write, and report every problem at once, with its place."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import yaml
from packaging.requirements import Requirement

from common.errors import EX_DATAERR, Finding, did_you_mean, user_error

Words = tuple[str, ...]
Requirements = Annotated[Words, Requirement]  # each is one of a Python package
Name = Annotated[str, "name"]  # a field that is the key of its dataclass in a mapping


def document(path: Path) -> Any:
    """Read a YAML file. Raises UserError (65) when it is not YAML or repeats a key."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise user_error(str(path), f"cannot be read: {error}", exit_code=EX_DATAERR) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a day like 2025-02-30
        words = " ".join(str(error).split())
        raise user_error(str(path), f"is not YAML: {words}", exit_code=EX_DATAERR) from None


def line_of(path: Path, key: str) -> int:
    """The line (from 1) of a dotted key, or of the nearest key above it; 0 without any.

    A part of the key is a name, which may have dots itself, a list's index, or the `name` of an
    entry in a list. JSON is YAML too.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return 0
    line, parts = 0, key.split(".")
    while node is not None and parts:
        node, taken, found = _child(node, parts)
        line, parts = found or line, parts[taken:]
    return line


def _child(node: Any, parts: list[str]) -> tuple[Any, int, int]:
    """The node below, how many parts name it, and the line of its key; None if there is none."""
    if isinstance(node, yaml.MappingNode):
        for count in range(len(parts), 0, -1):
            for key, value in node.value:
                if key.value == ".".join(parts[:count]):
                    return value, count, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for count in range(len(parts), 0, -1):
            part = ".".join(parts[:count])
            for index, value in enumerate(node.value):
                own = value.value if isinstance(value, yaml.MappingNode) else ()
                named = any(k.value == "name" and v.value == part for k, v in own)
                if named or part == str(index):
                    return value, count, value.start_mark.line + 1
    return None, 1, 0


def kind(value: Any) -> str:
    """Describe a value in a message."""
    return "missing" if value is None else f"{value!r} ({type(value).__name__})"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a repeated key: YAML itself would silently take the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                problem = f"the key '{key.value}' is repeated"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


class Reader:
    """Converts plain YAML to dataclasses, and collects every problem."""

    allow_empty = False  # strings

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Finding] = []

    def note(self, key: str, what: str, fix: str = "") -> None:
        """Add a finding. `key` is dotted; at the top of the file it starts with a dot."""
        place = key.removeprefix(".") or "(top)"
        self.problems.append(Finding(f"{self.file}: {place}", what, fix))

    def build(self, key: str, value: Any, hint: Any, **given: Any) -> Any:
        """Return `value` as the type `hint`: a dataclass, or what its fields are annotated with.

        `given` are fields of the dataclass that the YAML does not have. Strings must not be empty
        unless `allow_empty`, and numbers must be above 0.
        """
        if get_origin(hint) is Annotated:
            return self._checked(key, value, *get_args(hint))
        if get_origin(hint) in (Union, UnionType):  # with None
            return self.build(key, value, get_args(hint)[0])
        if dataclasses.is_dataclass(hint):
            hints = _hints(hint)  # type: ignore[arg-type]  # a type, not an instance
            raw = self.fields(key, value, hint, tuple(given))  # type: ignore[arg-type]
            built = {k: self.build(f"{key}.{k}", v, hints[k]) for k, v in raw.items()}
            return self.make(hint, **built, **given)  # type: ignore[arg-type]
        if hint == Words:
            return self.words(key, value)
        if get_origin(hint) is tuple:
            if not isinstance(value, list):
                self.note(key, f"must be a list, is {kind(value)}")
                return ()
            item = get_args(hint)[0]
            return tuple(self.build(f"{key}[{i}]", one, item) for i, one in enumerate(value))
        if get_origin(hint) is Mapping:
            item = get_args(hint)[1]
            named = [name for name, one in _hints(item).items() if one == Name]
            return {
                k: self.build(f"{key}.{k}", v, item, **dict.fromkeys(named, k))
                for k, v in self.mapping(key, value).items()
            }
        return self.scalar(key, value, hint)

    def _checked(self, key: str, value: Any, hint: Any, check: Any) -> Any:
        built = self.build(key, value, hint)
        for word in built if callable(check) else ():
            try:
                check(word)
            except ValueError as error:
                what = f"'{word}' is not a {check.__name__.lower()}: {str(error).splitlines()[0]}"
                self.note(key, what)
        return built

    def scalar(self, key: str, value: Any, hint: Any) -> Any:
        if hint is str:
            if isinstance(value, str) and not value.strip() and not self.allow_empty:
                self.note(key, "is empty")
            elif not isinstance(value, str) or value != value.strip():
                self.note(key, f"must be a string, is {kind(value)}", "quote it")
                return str(value)
        if hint is bool and not isinstance(value, bool):
            self.note(key, "must be true or false")
        if hint is datetime.date and type(value) is not datetime.date:
            self.note(key, f"must be a date like 2025-12-28, is {kind(value)}")
        if hint in (int, float) and not (type(value) in (int, float) and value > 0):
            self.note(key, f"must be a number above 0, is {kind(value)}")
        return value

    def fields(
        self, key: str, value: Any, cls: type, given: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Field → value of the dataclass `cls`, without the fields in `given`.

        The metadata of a field can name its `key`, where that is not a name in Python.
        """
        fields = {
            f.metadata.get("key", f.name): f for f in dataclasses.fields(cls) if f.name not in given
        }
        mapping = self.mapping(key, value)
        if not isinstance(value, dict):
            return {}
        for name in mapping:
            if name not in fields:
                self.note(f"{key}.{name}", "unknown key", did_you_mean(name, fields))
        for name, field in fields.items():
            optional = (
                field.default is not dataclasses.MISSING
                or field.default_factory is not dataclasses.MISSING
            )
            if name not in mapping and not optional:
                self.note(f"{key}.{name}", "is missing")
        return {field.name: mapping[name] for name, field in fields.items() if name in mapping}

    def mapping(self, key: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {str(name): item for name, item in value.items()}
        self.note(key, f"must be a mapping, is {kind(value)}")
        return {}

    def words(self, key: str, value: Any) -> Words:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            repeated = {item for item in value if value.count(item) > 1}
            for item in sorted(repeated):
                self.note(key, f"'{item}' is repeated")
            return tuple(value)
        self.note(key, f"must be a list of strings, is {kind(value)}")
        return ()

    def make(self, cls: type, **fields: Any) -> Any:
        """Make a `cls`, with None for missing fields, which were reported."""
        required = {
            f.name: None
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        return cls(**{**required, **fields})


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """The annotations of a dataclass; empty for any other type."""
    return get_type_hints(cls, include_extras=True) if dataclasses.is_dataclass(cls) else {}
