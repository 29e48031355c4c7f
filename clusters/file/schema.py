"""The JSON schema of a cluster file, with findings in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from clusters.file.document import Document
from clusters.model import Path
from common.errors import Finding, did_you_mean

PATH = FilePath(__file__).with_name("schema.json")
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}

# Path, code, message and fix of a finding.
_Problem = tuple[Path, str, str, str]


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a cluster file."""
    loaded: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return loaded


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def check(document: Document) -> dict[Path, Finding]:
    """Path -> the first finding of the schema there."""
    found: dict[Path, Finding] = {}
    for error in _validator().iter_errors(document.value):
        for path, code, message, fix in _findings(error):
            found.setdefault(path, document.finding(path, code, message, fix))
    return found


def _findings(error: ValidationError) -> Iterator[_Problem]:
    path: Path = tuple(error.instance_path)
    holder = _enclosing_schema(error.schema_path)
    value: Any = error.instance
    match error.kind:
        case ValidationErrorKind.AdditionalProperties(unexpected):
            for key in unexpected:
                fix = did_you_mean(key, holder["properties"])
                yield (*path, key), "unknown-key", "unknown key", fix
        case ValidationErrorKind.Required(key):
            yield (*path, key), "missing-key", "is missing", f"add {key}:"
        case ValidationErrorKind.PropertyNames(inner):
            for _, code, message, fix in _findings(inner):
                yield (*path, str(inner.instance)), code, message, fix
        case ValidationErrorKind.AnyOf(branches):
            yield from _branch_findings(path, value, branches)
        case ValidationErrorKind.OneOfNotValid() | ValidationErrorKind.OneOfMultipleValid():
            if not isinstance(value, dict):
                return  # the schema refuses its type as well
            keys = [key for one in holder["oneOf"] for key in one["required"]]
            given = [key for key in keys if key in value]
            message = f"has {' and '.join(given)}" if given else "does not say which"
            yield path, "one-of", message, f"give one of {', '.join(keys)}"
        case ValidationErrorKind.Type(types):
            yield path, "wrong-type", f"is {describe(value)}", _type_fix(types)
        case ValidationErrorKind.Enum(options):
            known = [str(option) for option in options]
            yield path, "bad-choice", f"{value!r} is not known", did_you_mean(str(value), known)
        case ValidationErrorKind.Pattern():
            message, _, fix = holder["patternErrorMessage"].partition("; ")
            yield path, "bad-value", f"{value!r} {message}", fix
        case ValidationErrorKind.Minimum() | ValidationErrorKind.Maximum():
            fix = f"give one from {holder['minimum']} to {holder['maximum']}"
            yield path, "bad-value", f"{value!r} is out of range", fix
        case ValidationErrorKind.MinItems() | ValidationErrorKind.MinProperties():
            yield path, "empty", "is empty", "give at least one"
        case _:
            yield path, "bad-value", error.message, "see `invoke cluster.schema`"


def _branch_findings(
    path: Path, value: Any, branches: Sequence[Sequence[ValidationError]]
) -> Iterator[_Problem]:
    """Findings about a value that may have several forms: those of the form with its type."""
    wanted: list[str] = []
    for errors in branches:
        kinds = [error.kind for error in errors if tuple(error.instance_path) == path]
        types = [one for one in kinds if isinstance(one, ValidationErrorKind.Type)]
        if not types:
            for error in errors:
                yield from _findings(error)
            return
        wanted += [name for one in types for name in one.types if name not in wanted]
    yield path, "wrong-type", f"is {describe(value)}", _type_fix(wanted)


def _type_fix(types: Sequence[str]) -> str:
    return f"give {' or '.join(_TYPES[name] for name in types)}"


def _enclosing_schema(path: Sequence[str | int]) -> Any:
    """The part of the schema that contains the keyword at the end of a path."""
    at: Any = schema()
    for step in path[:-1]:
        at = at[step]
    return at


def describe(value: Any) -> str:
    """A value for a message."""
    if value is None:
        return "empty"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value!r}"
