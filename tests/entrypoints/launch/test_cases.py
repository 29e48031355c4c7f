"""The reference deployment, command for command, in every format and for real."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from entrypoints import printing
from entrypoints.inputs.arguments import is_flag
from entrypoints.plan import plan
from tests import ROOT
from tests.entrypoints.conftest import Recorder

CASES = json.loads((ROOT / "tests/cases/serve.json").read_text())
EXTRA = {"VLLM_HOST_IP"}

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def as_flags(argv: list[str]) -> dict[str, Any]:
    """Arguments as the cases write them: true for a switch, JSON as a value."""
    flags: dict[str, Any] = {}
    for token in argv:
        if is_flag(token):
            assert token not in flags
            flags[token] = True
            last = token
        else:
            assert flags[last] is True
            flags[last] = json.loads(token) if token.startswith("{") else token
    return flags


def check_argv(case: dict[str, Any], argv: list[str]) -> None:
    assert argv[:2] == ["serve", case["model"]]
    assert as_flags(argv[2:]) == case["flags"]


def test_plan_json(case: dict[str, Any]) -> None:
    document = json.loads(printing.plan_json(plan(case["inputs"])))
    assert set(document) == {"role", "env", "argv", "ports", "warnings"}
    assert document["role"] == case["inputs"]["ROLE"]
    assert document["argv"][0] == "vllm"
    check_argv(case, document["argv"][1:])
    added = set(document["env"]) - set(case["env"])
    assert added <= EXTRA
    assert {k: v for k, v in document["env"].items() if k not in added} == case["env"]
    assert document["env"].get("VLLM_HOST_IP") == case["inputs"].get("LOCAL_IP")
    for warning in document["warnings"]:
        assert set(warning) == {"code", "message", "fix", "source"}
        assert all(warning.values())


def expected_env(case: dict[str, Any], library_path: str) -> dict[str, Any]:
    return {k: v.replace("$LD_LIBRARY_PATH", library_path) for k, v in case["env"].items()}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_plan_text_runs(case: dict[str, Any], shell: str, recorder: Recorder) -> None:
    script = printing.plan_text(plan(case["inputs"]))
    env = {"PATH": recorder.path, "LD_LIBRARY_PATH": "/from image"}
    done = subprocess.run([shell], input=script, env=env, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    call = recorder.call()
    check_argv(case, call["argv"])
    assert expected_env(case, "/from image").items() <= call["env"].items()


def test_plan_env_file(case: dict[str, Any]) -> None:
    text = printing.plan_env(plan(case["inputs"]))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    env = dict(line.split("=", 1) for line in lines)
    plain = {k: v for k, v in case["env"].items() if "$" not in v}
    assert {k: v for k, v in env.items() if k not in EXTRA} == plain


def test_exec(case: dict[str, Any], recorder: Recorder) -> None:
    """The process becomes `vllm serve`, with the container's variables kept."""
    alone = {"PREFLIGHT": "off", "WAIT_TIMEOUT": "0"}  # neither devices nor peers are here
    given = {"PATH": recorder.path, "LD_LIBRARY_PATH": "/image", "OTHER": "kept", **alone}
    env = {**case["inputs"], **given, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "entrypoints"], env=env, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    call = recorder.call()
    check_argv(case, call["argv"])
    assert expected_env(case, "/image").items() <= call["env"].items()
    assert call["env"]["OTHER"] == "kept"
    start = done.stderr.splitlines()[-1]
    for part in (case["inputs"]["ROLE"], case["inputs"]["RECIPE"], "v0.13.0rc1", case["model"]):
        assert part in start
