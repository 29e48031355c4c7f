"""The recipe format, and the data that the image carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrypoints.findings import Finding, Refused
from entrypoints.inputs import data, recipes, stack
from tests.entrypoints import known_facts

GOOD = "model: m\nroles: {single: }\n"

WRONG = [
    # YAML, key, part of the message
    ("model: m\nroles: {single: {size: {tp: 1}}}", "roles.single.size", "did you mean sizes?"),
    ("model: m\nrole: {}\nroles: {single: }", "role", "unknown key"),
    ("model: m\nroles: {headless: }", "roles.headless", "known: single"),
    ("model: m\nroles: {}", "roles", "names no role"),
    ("model: m", "roles", "is missing"),
    ("roles: {single: }", "model", "is missing"),
    (GOOD + "sizes: {tp: 0}", "sizes.tp", "whole number"),
    (GOOD + "sizes: {tp: true}", "sizes.tp", "whole number"),
    (GOOD + "sizes: {tpp: 1}", "sizes.tpp", "did you mean tp?"),
    (GOOD + "port: http", "port", "whole number"),
    (GOOD + "platforms: [a2, a9]", "platforms", "'a9' is unknown"),
    (GOOD + "releases: [v0.13]", "releases", "'v0.13' is unknown"),
    (GOOD + "source: {args: [1]}", "source.args", "is not a name"),
    (GOOD + "env: {VLLM-X: 1}", "env.VLLM-X", "names are ignored"),
    (GOOD + "env: {PORT: 1}", "env.PORT", "variable of the entrypoint"),
    (GOOD + "env: {X: [1]}", "env.X", "not text"),
    (GOOD + "env: []", "env", "not a mapping"),
    (GOOD + "args: {--x: 1}", "args.--x", "without the dashes"),
    (GOOD + "args: {tensor_parallel_size: 1}", "args.tensor_parallel_size", "sizes.tp"),
    (GOOD + "args: {headless: true}", "args.headless", "belongs to one node"),
    (GOOD + "args: {data-parallel-start-rank: 1}", "args.data-parallel-start-rank", "one node"),
    (GOOD + "args: {x: true, no-x: true}", "args.no-x", "same flag"),
    (GOOD + "args: {x: ['--y']}", "args.x", "looks like a flag"),
    (GOOD + "args: {x: {1: 2}}", "args.x.1", "unknown key"),
    (GOOD + "kv_transfer: {kv_ports: 1}", "kv_transfer.kv_ports", "did you mean kv_port?"),
    (GOOD + "kv_transfer: {kv_port: x}", "kv_transfer.kv_port", "whole number"),
    (
        "model: m\nroles: {prefill: , decode: }\n"
        "kv_transfer: {kv_connector_extra_config: {prefill: {}}}",
        "kv_transfer.kv_connector_extra_config.prefill",
        "written by hand",
    ),
]

UNREADABLE = [
    (b"", "empty"),
    (b"model: [", "at line"),
    (b"model: m\nmodel: n\n", "given twice at line 2"),
    (b"model: \xff", "not UTF-8"),
    (b"a: 1\n---\nb: 2\n", "document"),
    (b"model: !!python/name:os.system x", "line 1"),
    (b"&a {roles: {single: *a}}", "nested too deeply"),
    (b"[" * 5000, ""),
    (b"null", "not a mapping"),
    (b"- 1", "not a mapping"),
    (b"model: \x00", ""),
]


def load(tmp_path: Path, content: str | bytes) -> recipes.Recipe:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return recipes.load(str(file))


@pytest.mark.parametrize(("content", "key", "part"), WRONG)
def test_wrong(content: str, key: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path, content)
    (finding,) = caught.value.findings
    assert finding.where == f"{tmp_path / 'recipe.yaml'}: {key}"
    assert part in finding.line()
    assert caught.value.exit_code == 65


@pytest.mark.parametrize(("content", "part"), UNREADABLE)
def test_unreadable(content: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path, content)
    assert caught.value.exit_code == 65
    assert part in caught.value.findings[0].line()


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path, "a: 1\nport: x\nenv: {A-B: 1}\nroles: {single: {b: 1}}\n")
    keys = [p.where.rpartition(": ")[2] for p in caught.value.findings]
    assert keys == ["a", "model", "port", "env.A-B", "roles.single.b"]


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").mkdir()
    with pytest.raises(Refused) as caught:
        recipes.load(str(tmp_path / "x.yaml"))
    assert caught.value.exit_code == 64


def test_scalars_stay_as_written(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        "model: m\nroles: {single: }\nenv: {A: 0.90, B: True, C: 010, D: on, E: 1e3}\n"
        "args: {a: on, b: 12:30, c: 2024-01-01, d: 010, e: 1e-5}\n",
    )
    block = recipe.groups["single"]
    assert block.env == {"A": "0.90", "B": "True", "C": "010", "D": "on", "E": "1e3"}
    values = [flag.values[0] for flag in block.flags()]
    assert values == ["on", "12:30", "2024-01-01", "010", "1e-05"]


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_loads(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.description
    assert recipe.platforms


@pytest.mark.parametrize("name", data.names("releases"))
def test_every_release_has_facts_with_sources(name: str) -> None:
    findings: list[Finding] = []
    release = stack.release(name, findings)
    assert release
    assert not findings
    assert release.adxl_ports.source


def test_the_six_releases() -> None:
    known = ["v0.11.0", "v0.13.0", "v0.13.0rc1", "v0.15.0rc1", "v0.18.0", "v0.23.0.post1"]
    assert data.names("releases") == ["cpu-0.32.0", *known]
    assert known_facts.release().name == "v0.13.0rc1"


def test_platforms() -> None:
    devices = {name: known_facts.platform(name).devices for name in data.names("platforms")}
    assert devices == {"a2": 8, "a3": 16, "cpu": 0}
