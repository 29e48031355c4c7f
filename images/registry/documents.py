"""Read JSON documents that others write, and check them by the schemas in documents.yaml."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from jsonschema_rs import Draft202012Validator

from common.errors import EX_DATAERR, UserError, user_error
from images.registry import limits

PATH = Path(__file__).with_suffix(".yaml")


def read(file: BinaryIO, kind: str, where: str) -> Any:
    """Read a document of a kind. Raises UserError (65) as `parse` does, and if it is too large."""
    return parse(limits.read(file, kind, where), kind, where)


def parse(content: bytes | str, kind: str, where: str) -> Any:
    """Parse a document. Raises UserError (65) if it is not JSON or not of this kind."""
    try:
        document = load(content)
    except ValueError as error:
        raise _refused(kind, where, str(error)) from None
    check(document, kind, where)
    return document


def check(document: Any, kind: str, where: str) -> None:
    """Check a document. Raises UserError (65) if it is not of this kind."""
    schema = _schema(kind)
    try:
        wrong = next(schema.iter_errors(document), None)
    except ValueError as error:  # nested too deeply for jsonschema_rs
        raise _refused(kind, where, str(error)) from None
    if wrong:
        place = "/".join(map(str, wrong.instance_path))
        raise _refused(kind, where, f"{place}: {wrong.message}" if place else wrong.message)


def _refused(kind: str, where: str, what: str) -> UserError:
    return user_error(where, f"is not {limits.with_article(kind)}: {what}", exit_code=EX_DATAERR)


def load(content: bytes | str) -> Any:
    """Parse JSON. Raises ValueError, also if it is nested too deeply or not Unicode."""
    text = content if isinstance(content, str) else content.decode()
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\ud" in text.lower():  # an unpaired surrogate cannot be printed
        json.dumps(document, ensure_ascii=False).encode()
    return document


@cache
def _schema(kind: str) -> Draft202012Validator:
    schemas = _schemas()
    return Draft202012Validator({"$defs": schemas["$defs"], **schemas[kind]}, mask="the value")


@cache
def _schemas() -> dict[str, Any]:
    return dict(yaml.safe_load(PATH.read_text(encoding="utf-8")))
