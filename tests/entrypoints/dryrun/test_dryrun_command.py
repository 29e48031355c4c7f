"""The dry run's command, with a process in place of upstream's code that answers as told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from entrypoints.__main__ import main

RECIPE = {
    "ROLE": "single",
    "RECIPE": "qwen3-235b-a22b-w8a8/throughput-a3",
    "ASCEND_PLATFORM": "a3",
    "VLLM_ASCEND_RELEASE": "v0.13.0rc1",
}
SAYS = {
    "stage": "configuration",
    "severity": "error",
    "message": "max_num_seqs (128) is too large",
    "at": "vllm/config/scheduler.py:12",
    "judged": True,
}
MEMORY = {"hbm": 64 << 30, "share": 0.9, "allowance": 4 << 30, "available": 30 << 30}
ACCEPTED = {
    "findings": [{**SAYS, "severity": "warning"}],
    "decided": {"graph_mode": "FULL", "block_size": 128},
    "ranks": [{"rank": [0, 0], "weights": {"experts": 3 << 30, "attention": 1 << 29}}],
    "memory": {**MEMORY, "tokens": 123456, "requests": 3.01},
    "seconds": {"configuration": 1.5},
}


class Upstream:
    """A `python` in PATH that keeps what it is asked and prints the answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer()

    def answer(self, *lines: dict[str, Any], code: int = 0) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / "answers").write_text(text)
        script = self.folder / "python"
        script.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(self.folder / 'asked')!r}, 'w').write(sys.stdin.read())\n"
            f"sys.stdout.write(open({str(self.folder / 'answers')!r}).read())\n"
            f"sys.exit({code} and 'boom')\n"
        )
        script.chmod(0o755)

    @property
    def asked(self) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads((self.folder / "asked").read_text())
        return asked


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path)


def dryrun(upstream: Upstream, *args: str, **env: str) -> int:
    path = f"{upstream.folder}{os.pathsep}{os.environ['PATH']}"
    return main(["dryrun", *args], {**RECIPE, **env, "PATH": path})


def test_accepted(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.answer({"imported": 1.0}, {"node": 0, **ACCEPTED})
    assert dryrun(upstream) == 0
    out = capsys.readouterr().out
    assert ": would start\n" in out
    assert "3.50 GiB of weights (experts 3.00, attention 0.50)" in out
    assert "64.00 GiB * 0.9, less the weights and 4.00 GiB allowed" in out
    assert "30.00 GiB for the KV cache; 123,456 tokens, 3.0 requests of full length" in out
    assert "  warning    max_num_seqs (128) is too large [vllm/config/scheduler.py:12]\n" in out


def test_what_upstream_is_asked(upstream: Upstream) -> None:
    upstream.answer({"node": 0, **ACCEPTED})
    assert dryrun(upstream, "--hbm", "32", "--allowance=2.5", "--no-model", "--seed", "7") == 0
    asked = upstream.asked
    (node,) = asked["nodes"]
    assert not asked["model"]
    assert node["hbm"] == 32 << 30
    assert node["allowance"] == 5 << 29
    assert node["devices"] == 16
    assert node["argv"][:2] == ["vllm", "serve"]
    assert node["argv"][node["argv"].index("--seed") + 1] == "7"
    assert node["env"]["HCCL_BUFFSIZE"] == "512"
    assert not Path(node["argv"][2]).exists(), "the folder of the shape is gone"


def test_refused_with_the_flag_behind_it(
    upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.answer({"node": 0, "findings": [SAYS], "seconds": {}})
    assert dryrun(upstream, "--format", "json", DP_SIZE="4") == 65
    (report,) = json.loads(capsys.readouterr().out)
    assert report["refused"]
    (finding,) = [one for one in report["findings"] if one["stage"] == "configuration"]
    assert finding["behind"] == ["--max-num-seqs"]


def test_a_variable_behind_it(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    said = {**SAYS, "message": "heads must be divisible by tensor parallel size (4)"}
    upstream.answer({"node": 0, "findings": [said], "seconds": {}})
    assert dryrun(upstream) == 65
    assert "; set by --tensor-parallel-size (TP_SIZE)\n" in capsys.readouterr().out


def test_what_is_not_judged_refuses_nothing(
    upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.answer({"node": 0, "findings": [{**SAYS, "judged": False}], "seconds": {}})
    assert dryrun(upstream) == 0
    assert "  not judged max_num_seqs" in capsys.readouterr().out


def test_a_process_that_ends(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.answer({"node": 0, "ended": "its process ended with -9"})
    assert dryrun(upstream) == 0
    assert "not judged no answer from upstream's code: its process ended with -9" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("code", [0, 1])
def test_an_image_that_cannot_be_asked(
    upstream: Upstream, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    upstream.answer(*([] if code else [{"unusable": "boom"}]), code=code)
    assert dryrun(upstream) == 78
    assert "this image cannot be asked: boom" in capsys.readouterr().err


def test_an_image_that_ends_before_it_reads(
    upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    (upstream.folder / "python").write_text("#!/bin/sh\necho no >&2; exit 3\n")
    variables = {f"FILL_{number}": "x" * 1000 for number in range(200)}  # more than a pipe holds
    assert dryrun(upstream, **variables) == 78
    assert "this image cannot be asked: no;" in capsys.readouterr().err


def test_no_place_for_scratch_files(
    upstream: Upstream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(upstream.folder / "none"))
    assert dryrun(upstream) == 78
    assert "cannot write its scratch files" in capsys.readouterr().err


def test_our_own_refusal_needs_no_upstream(
    upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dryrun(upstream, TP_SIZE="x") == 65
    assert "TP_SIZE" in capsys.readouterr().out
    assert not (upstream.folder / "asked").exists()


def test_a_proxy_has_nothing_to_ask(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"PREFILL_ENDPOINTS": "10.0.0.1:8000", "DECODE_ENDPOINTS": "10.0.0.2:8000"}
    assert dryrun(upstream, ROLE="proxy", RECIPE="", **env) == 0
    assert "runs no vllm serve, so there is nothing to ask" in capsys.readouterr().out


def test_an_unknown_model(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    assert dryrun(upstream, MODEL="my/own") == 65
    assert "the shape of my/own is not known here; mount its folder" in capsys.readouterr().out


def test_a_mounted_folder_wins(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    upstream.answer({"node": 0, **ACCEPTED})
    assert dryrun(upstream, MODEL=str(tmp_path)) == 0
    (node,) = upstream.asked["nodes"]
    assert node["argv"][2] == str(tmp_path)
    assert not node["assumed"]


def test_several_nodes(
    upstream: Upstream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"name": name, "variables": {"SEED": name}} for name in ("a", "b")]
    upstream.answer({"node": 1, "findings": [SAYS], "seconds": {}}, {"node": 0, **ACCEPTED})
    with (upstream.folder / "nodes").open("w+") as stdin:
        json.dump(nodes, stdin)
        stdin.seek(0)
        monkeypatch.setattr("sys.stdin", stdin)
        assert dryrun(upstream, "--nodes", "--format=json") == 65
    found = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["refused"]) for one in found] == [("a", False), ("b", True)]


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '[{"name": "a"}]', '[{"name": "a", "variables": 2}]']
)
def test_nodes_that_are_none(
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    path = upstream.folder / "nodes"
    path.write_text(text)
    with path.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert dryrun(upstream, "--nodes") == 64
    assert "stdin is not a list of nodes" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["", "x", "-1", "0", "nan", "inf"])
def test_a_number_that_is_none(
    upstream: Upstream, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert dryrun(upstream, f"--hbm={value}") == 64
    assert f"{value!r} is not a number of GiB" in capsys.readouterr().err
