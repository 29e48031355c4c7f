"""YAML that people write, read so that every problem is said at once and with its place."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from common.errors import EX_DATAERR, Finding, did_you_mean, user_error

Words = tuple[str, ...]


def document(path: Path) -> Any:
    """Raises UserError (65) when it is no YAML, or has a key twice."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise user_error(str(path), f"cannot be read: {error}", exit_code=EX_DATAERR) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a day like 2025-02-30
        words = " ".join(str(error).split())
        raise user_error(str(path), f"is not YAML: {words}", exit_code=EX_DATAERR) from None


def kind(value: Any) -> str:
    """A value in the words of a problem."""
    return "missing" if value is None else f"{value!r} ({type(value).__name__})"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key given twice: YAML itself would take the last one and say nothing."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                problem = f"the key '{key.value}' is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


class Reader:
    """Turns plain YAML into dataclasses, noting every problem and going on."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Finding] = []

    def note(self, key: str, what: str, fix: str = "") -> None:
        """`key`: dotted; empty, or with nothing before its first dot, at the top of the file."""
        place = key.removeprefix(".") or "(top)"
        self.problems.append(Finding(f"{self.file}: {place}", what, fix))

    def build(self, key: str, value: Any, hint: Any) -> Any:
        """Return `value` as the type `hint`: a dataclass, or what its fields are annotated with.

        Texts must not be empty, and numbers must be above 0.
        """
        if dataclasses.is_dataclass(hint):
            hints = get_type_hints(hint)
            raw = self.fields(key, value, hint)  # type: ignore[arg-type]  # not an instance
            built = {k: self.build(f"{key}.{k}".lstrip("."), v, hints[k]) for k, v in raw.items()}
            return self.make(hint, **built)  # type: ignore[arg-type]
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
            return {
                k: self.build(f"{key}.{k}", v, item) for k, v in self.mapping(key, value).items()
            }
        if hint is str:
            if not isinstance(value, str):
                self.note(key, f"must be a text, is {kind(value)}", "quote it")
            elif not value.strip():
                self.note(key, "is empty")
        positive = type(value) in (int, float) and value > 0
        if hint in (int, float) and not positive:
            self.note(key, f"must be a number above 0, is {kind(value)}")
        return value

    def fields(
        self, key: str, value: Any, cls: type, given: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """`value` as the keyword arguments of `cls`, less the fields the caller gives itself."""
        fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in given}
        mapping = self.mapping(key, value)
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
        return {name: mapping[name] for name in fields if name in mapping}

    def mapping(self, key: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {str(name): item for name, item in value.items()}
        self.note(key, f"must be a mapping, is {kind(value)}")
        return {}

    def words(self, key: str, value: Any) -> Words:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            repeated = {item for item in value if value.count(item) > 1}
            for item in sorted(repeated):
                self.note(key, f"'{item}' twice")
            return tuple(value)
        self.note(key, f"must be a list of words, is {kind(value)}")
        return ()

    def texts(self, key: str, raw: dict[str, Any], *names: str) -> None:
        """Hold each of `names` to be a text: YAML reads an unquoted 3.12 as a number."""
        for name in names:
            if name in raw and not (isinstance(raw[name], str) and raw[name] == raw[name].strip()):
                self.note(f"{key}.{name}", f"must be a text, is {kind(raw[name])}", "quote it")
                raw[name] = str(raw[name])

    def named(self, key: str, value: Any, names: Iterable[str]) -> dict[str, Any]:
        """A mapping of exactly `names` to texts."""
        mapping, names = self.mapping(key, value), list(names)
        for name in mapping:
            if name not in names:
                self.note(f"{key}.{name}", "unknown key", did_you_mean(name, names))
        for name in names:
            if name not in mapping:
                self.note(f"{key}.{name}", "is missing")
        self.texts(key, mapping, *names)
        return mapping

    def dates(self, key: str, value: Any) -> None:
        """Hold `value` to be a mapping of names to days."""
        for name, date in self.mapping(key, value).items():
            if type(date) is not datetime.date:
                self.note(f"{key}.{name}", f"must be a date like 2025-12-28, is {kind(date)}")

    def requirements(self, key: str, value: Any) -> Words:
        """A list of what a resolver understands."""
        words = self.words(key, value)
        for word in words:
            try:
                Requirement(word)
            except InvalidRequirement as error:
                self.note(key, f"'{word}' is no requirement: {str(error).splitlines()[0]}")
        return words

    def table(self, key: str, value: Any, cls: type) -> dict[str, Any]:
        """A mapping name → `cls` whose fields are all texts or booleans with a default."""
        result = {}
        for name, item in self.mapping(key, value).items():
            raw = self.fields(f"{key}.{name}", item, cls, given=("name",))
            booleans = [f.name for f in dataclasses.fields(cls) if isinstance(f.default, bool)]
            for boolean in booleans:
                if not isinstance(raw.get(boolean, False), bool):
                    self.note(f"{key}.{name}.{boolean}", "must be true or false")
            self.texts(f"{key}.{name}", raw, *(n for n in raw if n not in booleans))
            result[name] = self.make(cls, name=name, **raw)
        return result

    def make(self, cls: type, **fields: Any) -> Any:
        """`cls`, with None for what was missing: the problem is noted, the reading goes on."""
        required = {
            f.name: None
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        return cls(**{**required, **fields})

    def packages(self, key: str, value: Any) -> dict[str, Words]:
        return {
            name: self.words(f"{key}.{name}", item)
            for name, item in self.mapping(key, value).items()
        }
