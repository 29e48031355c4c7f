"""The rules of cpu_rules.yaml, and what is said of wrong ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import EX_DATAERR, UserError
from entrypoints.inputs import catalogue, stack
from images import matrix
from validation.rehearsal import cpu_rules

Change = Callable[[dict[str, Any]], object]


def loaded(tmp_path: Path, change: Change) -> cpu_rules.Rules:
    raw = yaml.safe_load(cpu_rules.PATH.read_text())
    change(raw)
    path = tmp_path / "cpu_rules.yaml"
    path.write_text(yaml.safe_dump(raw))
    return cpu_rules.load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("timeout"), "timeout: is missing"),
        (lambda r: r.update(timeout=True), "timeout: must be a number above 0"),
        (lambda r: r.update(speed=1), "speed: unknown key"),
        (lambda r: r.update(vllm_versions="0.32.0"), "vllm_versions: must be a list of strings"),
        (lambda r: r["worker"].update(gib=0), "worker.gib: must be a number above 0"),
        (lambda r: r["worker"].pop("cores"), "worker.cores: is missing"),
        (
            lambda r: r["unsupported"].update({"ray-head": 1}),
            "unsupported.ray-head: must be a string",
        ),
        (lambda r: r.update(remove=[]), "remove: must be a mapping"),
        (lambda r: r["remove"].pop("flags"), "remove.flags: is missing"),
        (lambda r: r["remove"].update(flags={}), "remove.flags: must be a list"),
        (lambda r: r["remove"]["flags"][0].pop("why"), "remove.flags[0].why: is missing"),
        (lambda r: r["remove"]["flags"][0].update(why=""), "remove.flags[0].why: is empty"),
        (lambda r: r["remove"]["flags"][1].update(names=["quantization"]), "'quantization' twice"),
        (lambda r: r["override"]["variables"][0].update(value=1), "value: must be a string"),
        (lambda r: r["override"]["flags"][0].pop("value"), "override.flags[0].value: is missing"),
        (
            lambda r: r["limits"][0].update(value="many"),
            "limits[0].value: must be a number",
        ),
        (lambda r: r["transfer"].pop("port"), "transfer.port: is missing"),
        (lambda r: r["transfer"]["port"].update(step=0), "transfer.port.step: must be a number"),
        (
            lambda r: r["transfer"]["variables"].update(A=1),
            "transfer.variables.A: must be a string",
        ),
    ],
)
def test_bad_data_is_said_with_its_place(tmp_path: Path, change: Change, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as error:
        loaded(tmp_path, change)
    assert error.value.exit_code == EX_DATAERR
    assert all(one.where.startswith("cpu_rules.yaml: ") for one in error.value.findings)


def test_every_problem_is_said_at_once(tmp_path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw.pop("max_tensor_parallel")
        raw["remove"]["features"][0].pop("why")
        raw["limits"][2].pop("name")

    with pytest.raises(UserError) as error:
        loaded(tmp_path, change)
    assert len(error.value.findings) == 3


def test_every_engine_of_the_rules_is_one_of_the_matrix() -> None:
    known = cpu_rules.load()
    assert known.vllm_versions
    assert set(known.vllm_versions) <= set(matrix.load().cpu.vllm_versions)


@pytest.mark.parametrize("vllm", cpu_rules.load().vllm_versions)
def test_what_is_set_the_engine_knows(vllm: str) -> None:
    known = cpu_rules.load()
    problems: list[Any] = []
    release = stack.release(matrix.load().cpu_vllm(vllm).facts, problems)
    assert release
    its = catalogue.load(release)
    flags = [one.name for one in known.override.flags] + [one.name for one in known.limits]
    assert {f"--{name}" for name in flags} <= its.options.keys()
    named = [one.name for one in known.override.variables]
    transfer = known.transfer
    for name in (*named, *transfer.variables, transfer.port.variable):
        assert not name.startswith("VLLM_") or name in its.variables
    assert transfer.connector in release.connectors


def test_the_first_rule_that_fits_a_name_says_why() -> None:
    some = (
        cpu_rules.Pattern(("hccl-*", "b"), "first"),
        cpu_rules.Pattern(("hccl-x", "c"), "second"),
    )
    assert [cpu_rules.reason(name, some) for name in ("hccl-x", "b", "c", "d")] == [
        "first",
        "first",
        "second",
        "",
    ]
