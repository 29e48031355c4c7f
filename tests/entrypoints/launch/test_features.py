"""A recipe says what it wants once; each release's form of it comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from entrypoints.findings import WARNING, Finding
from entrypoints.inputs import data, stack
from entrypoints.launch.features import Forms, forms
from entrypoints.plan import plan

# Of vllm-ascend; the others are a vLLM alone.
RELEASES = [name for name in data.names("releases") if not name.startswith("cpu-")]
YARN = {"rope_theta": 1000000, "factor": 4, "original_max_position_embeddings": 32768}


def made(release: str, wanted: dict[str, Any], environ: dict[str, Any] | None = None) -> Forms:
    found, warnings = made_with_warnings(release, wanted, environ)
    assert not warnings
    return found


def made_with_warnings(
    release: str, wanted: dict[str, Any], environ: dict[str, Any] | None = None
) -> tuple[Forms, list[Finding]]:
    known = stack.release(release, [])
    assert known
    findings: list[Finding] = []
    found = forms(wanted, "features", known, environ or {}, findings)
    assert {one.severity for one in findings} <= {WARNING}
    return found, findings


def wrong(release: str, wanted: dict[str, Any], environ: dict[str, Any] | None = None) -> str:
    known = stack.release(release, [])
    assert known
    findings: list[Finding] = []
    forms(wanted, "r: features", known, environ or {}, findings)
    (finding,) = findings
    assert finding.exit_code == 65
    return finding.line()


def test_there_are_six_releases_and_each_has_a_form_for_every_feature() -> None:
    assert len(RELEASES) == 6
    tables = [stack.release(name, []) for name in RELEASES]
    names = {name for table in tables if table for name in table.features}
    for table in tables:
        assert table
        assert not names - set(table.features), table.name
        for name, feature in table.features.items():
            given = [bool(feature.arg), bool(feature.env), bool(feature.missing)]
            assert given.count(True) == 1, (table.name, name)
            assert feature.source


@pytest.mark.parametrize("release", RELEASES)
def test_yarn(release: str) -> None:
    (flag,) = made(release, {"yarn": YARN}).flags
    value = json.loads(flag.values[0])
    if release == "v0.11.0":
        assert flag.name == "--rope-scaling"
        assert value == {
            "rope_type": "yarn",
            "factor": 4,
            "original_max_position_embeddings": 32768,
        }
    else:
        assert flag.name == "--hf-overrides.rope_parameters"
        assert value == {"rope_type": "yarn", **YARN}


@pytest.mark.parametrize("release", RELEASES)
def test_flashcomm1_and_fused_mc2(release: str) -> None:
    found, warnings = made_with_warnings(release, {"flashcomm1": True, "fused_mc2": 1})
    if release == "v0.23.0.post1":
        assert [(flag.name, flag.values) for flag in found.flags] == [
            ("--additional-config.enable_flashcomm1", ("true",)),
            ("--additional-config.enable_fused_mc2", ("1",)),
        ]
        assert not found.env
        return
    assert found.env["VLLM_ASCEND_ENABLE_FLASHCOMM1"] == "1"
    if release == "v0.11.0":
        (warning,) = warnings
        assert warning.code == "feature-missing"
        assert "v0.13.0rc1" in warning.message
    else:
        assert not warnings
        assert found.env["VLLM_ASCEND_ENABLE_FUSED_MC2"] == "1"


def test_the_operators_older_variable_still_speaks() -> None:
    environ = {"VLLM_ASCEND_ENABLE_FUSED_MC2": "0"}
    (flag,) = made("v0.23.0.post1", {"fused_mc2": 2}, environ).flags
    assert flag.values == ("0",)
    line = wrong("v0.23.0.post1", {"fused_mc2": 1}, {"VLLM_ASCEND_ENABLE_FUSED_MC2": "7"})
    assert line.startswith("VLLM_ASCEND_ENABLE_FUSED_MC2: 7 is not a value")


def test_false_is_said_too() -> None:
    found = made("v0.13.0", {"async_scheduling": False, "flashcomm1": False})
    assert found.flags[0].name == "--no-async-scheduling"
    assert found.env == {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "0"}


@pytest.mark.parametrize("value", [3, -1, "yes", [1], {"a": 1}, None])
def test_values_that_no_release_takes(value: object) -> None:
    line = wrong("v0.13.0", {"flashcomm1": value})
    assert "r: features.flashcomm1" in line
    assert "give one of 0, 1 [bad-feature, vllm-ascend v0.13.0" in line


def test_unknown() -> None:
    assert "did you mean fused_mc2?" in wrong("v0.13.0", {"fused-mc2": 1})


class TestAskedForByVariables:
    SINGLE = ("ROLE", "single"), ("MODEL", "m")

    def codes(self, **environ: str) -> tuple[list[str], list[str]]:
        launch = plan({**dict(self.SINGLE), **environ})
        return list(launch.argv), [warning.code for warning in launch.warnings]

    def test_drain_timeout(self) -> None:
        argv, codes = self.codes(DRAIN_TIMEOUT="20", VLLM_ASCEND_RELEASE="v0.18.0")
        assert argv[-2:] == ["--shutdown-timeout", "20"]
        assert not codes
        argv, codes = self.codes(DRAIN_TIMEOUT="20")
        assert argv == ["vllm", "serve", "m"]
        assert codes == ["no-drain"]
        assert not self.codes(DRAIN_TIMEOUT="20", SUPERVISE="1")[1]

    def test_an_argument_wins(self, tmp_path: Path) -> None:
        recipe = tmp_path / "r.yaml"
        recipe.write_text(
            "{model: m, features: {flashcomm1: true}, args: {additional-config: {x: 1}},"
            " roles: {single: }}"
        )
        environ = {"ROLE": "single", "RECIPE": str(recipe), "VLLM_ASCEND_RELEASE": "v0.23.0.post1"}
        argv = plan(environ, ["--additional-config.enable_flashcomm1", "false"]).argv
        assert json.loads(argv[-1]) == {"x": 1, "enable_flashcomm1": False}
