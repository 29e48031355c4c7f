"""The commands as people type them: what they print, where, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.locking import slices
from tests import ROOT

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = Path(__file__).parent / "samples"


def _invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "invoke", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_the_commands_are_listed() -> None:
    answer = _invoke("--list")
    assert answer.returncode == 0
    listed = {line.split()[0] for line in answer.stdout.splitlines() if line.startswith("  ")}
    assert {"build", "render", "lock", "matrix", "test", "lint"} <= listed


@pytest.mark.parametrize(
    ("arguments", "code", "problems"),
    [
        (
            ("render", "--platform", "a33"),
            64,
            ["--platform: 'a33' is not in the matrix (did you mean a3?)"],
        ),
        (
            ("matrix", "--release", "v1"),
            64,
            ["--release: 'v1' is not in the matrix (known: v0.11.0, v0.13.0rc1, v0.13.0, "
             "v0.15.0rc1, v0.18.0, v0.23.0.post1)"],
        ),
        (
            ("matrix", "--format", "yaml"),
            64,
            ["--format: 'yaml' is not known (text, json or github)"],
        ),
        (
            ("build",),
            64,
            ["--platform: is missing (--platform a2 or a3 or 310p, or --all)"],
        ),
        (
            ("build", "--platform", "a3", "--push"),
            64,
            ["--push: needs a registry (--registry registry.example.com/team)"],
        ),
        (
            ("build", "--platform", "a3", "--certificates", "/none", "--netrc", "/none/too"),
            64,
            ["--certificates: no such file: /none", "--netrc: no such file: /none/too"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_wrong_input_is_answered_in_plain_words(
    arguments: tuple[str, ...], code: int, problems: list[str]
) -> None:
    answer = _invoke(*arguments)
    assert answer.returncode == code
    assert answer.stderr.splitlines() == [f"error: {problem}" for problem in problems]
    assert answer.stdout == ""


def test_render_prints_the_dockerfile() -> None:
    answer = _invoke("render", "--platform", "a3")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == (GOLDEN / "a3.Dockerfile").read_text()


def test_render_takes_a_captured_environment() -> None:
    file = str(SAMPLES / "environment.json")
    answer = _invoke("render", "--platform", "a2", "--base", "stand-in", "--environment", file)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == (GOLDEN / "a2-stand-in-captured.Dockerfile").read_text()


def test_the_matrix_as_data() -> None:
    answer = _invoke("matrix", "--release", "v0.23.0.post1", "--format", "json")
    rows = json.loads(answer.stdout)
    assert [row["tag"] for row in rows] == [
        "v0.23.0.post1",
        "v0.23.0.post1-openeuler",
        "v0.23.0.post1-a3",
        "v0.23.0.post1-a3-openeuler",
    ]
    assert rows[2] == {
        "release": "v0.23.0.post1",
        "platform": "a3",
        "os": "ubuntu22.04",
        "arches": ["arm64", "amd64"],
        "tag": "v0.23.0.post1-a3",
        "cann_image": "quay.io/ascend/cann:9.1.0-a3-ubuntu22.04-py3.12",
        "soc_version": "ascend910_9391",
        "python": "3.12",
        "pins": {
            "cann": "9.1.0",
            "torch": "2.10.0",
            "torch_npu": "2.10.0.post4",
            "triton_ascend": "3.2.2",
            "mooncake": "0.3.11.post1",
            "vllm": "0.23.0",
            "vllm_ascend": "0.23.0.post1",
        },
    }


def test_the_locks_agree_with_the_matrix() -> None:
    answer = _invoke("lock", "--check")
    assert (answer.returncode, answer.stderr) == (0, "")
    locked = sorted(path.name for path in slices.LOCKS.iterdir() if path.is_dir())
    said = answer.stdout.strip().removeprefix("locks agree with the matrix: ")
    assert sorted(said.split(", ")) == locked


def test_no_docker_is_no_traceback(docker: object) -> None:
    """The fake of every test knows no image, as an engine without a network does."""
    assert os.environ["PATH"].endswith(":/usr/bin:/bin")
    answer = _invoke("build", "--platform", "a3", "--dry-run")
    assert answer.returncode == 69
    assert answer.stderr.startswith("error: quay.io/ascend/cann:8.3.rc2-a3-ubuntu22.04-py3.11: ")
    assert "--base stand-in" in answer.stderr
    assert "Traceback" not in answer.stderr
