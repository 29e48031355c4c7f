"""The published schema: valid, complete for an editor, and of one mind with the records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from clusters.file import recipe
from clusters.file.document import parse
from clusters.file.read import read_text
from clusters.file.schema import schema
from clusters.model import Instance, Kubernetes, Proxy, Run
from entrypoints.inputs import data
from entrypoints.inputs.recipes import Sizes
from entrypoints.inputs.roles import GROUPS
from images.matrix import load

EXAMPLES = sorted(Path("clusters/examples").glob("*.yaml"))
VALIDATOR = jsonschema_rs.Draft202012Validator(schema())


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """The part with what it refers to beneath it."""
    while "$ref" in part:
        at: Any = schema()
        for step in part["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        part = {**at, **{key: value for key, value in part.items() if key != "$ref"}}
    return part


def keys(part: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that the schema names, with what it says of it."""
    part = resolved(part)
    for name, inner in part.get("properties", {}).items():
        where = f"{at}.{name}" if at else name
        yield where, resolved(inner)
        yield from keys(inner, where)
    for inner in part.get("anyOf", ()):
        yield from keys(inner, at)
    for key in ("items", "additionalProperties"):
        if isinstance(part.get(key), dict):
            yield from keys(part[key], f"{at}.*")


KEYS = dict(keys(schema()))


def names(at: str) -> set[str]:
    """The keys right beneath one."""
    return {key.removeprefix(f"{at}.") for key in KEYS if key.rpartition(".")[0] == at}


def test_it_is_a_schema_of_its_draft() -> None:
    assert jsonschema_rs.meta.is_valid(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema()["$id"]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_explained_to_an_editor(key: str) -> None:
    said = KEYS[key]
    assert said["title"]
    assert said["description"].endswith(".")
    assert said["examples"]


@pytest.mark.parametrize("key", KEYS)
def test_examples_and_defaults_of_a_key_pass(key: str) -> None:
    said = {**KEYS[key], "$defs": schema()["$defs"]}
    validator = jsonschema_rs.Draft202012Validator(said)
    for value in [*said["examples"], *([said["default"]] if "default" in said else [])]:
        validator.validate(value)


def test_every_pattern_says_what_it_wants() -> None:
    def patterns(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            if isinstance(part.get("pattern"), str):
                yield part
            for inner in part.values():
                yield from patterns(inner)

    found = list(patterns(schema()))
    assert found
    assert all("; " in part["patternErrorMessage"] for part in found)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_pass(path: Path) -> None:
    document = parse(str(path), path.read_text(), lambda _: False)
    VALIDATOR.validate(document.value)


def test_the_documentation_names_every_key_and_its_example_has_no_problem() -> None:
    text = Path("docs/clusters.md").read_text()
    missing = [key for key in KEYS if not re.search(rf"\b{key.rpartition('.')[2]}\b", text)]
    assert missing == []
    example = text.split("```yaml\n")[1].split("```")[0]
    assert read_text("docs/clusters.md", example).findings == ()


def test_its_keys_are_those_of_the_records() -> None:
    def of(record: Any) -> set[str]:
        return {field.name for field in fields(record)}

    settings = set(recipe.SETTINGS)
    assert names("run") == of(Run) - {"shm_gib"} | {"shm"}
    assert names("kubernetes") == of(Kubernetes)
    assert names("proxy") == of(Proxy)
    assert names("instances.*") == of(Instance) - {"name", "each", "settings"} | settings
    assert settings <= names("")


def test_it_knows_the_entrypoints_names() -> None:
    assert names("sizes") == set(Sizes._fields)
    assert set(KEYS["instances.*.role"]["enum"]) == {"serve", *GROUPS}
    assert set(KEYS["platform"]["examples"]) == set(data.names("platforms"))
    assert set(KEYS["release"]["examples"]) <= set(data.names("releases"))
    assert set(KEYS["os"]["examples"]) == set(load().oses)
