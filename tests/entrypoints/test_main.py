"""The command line: what is printed, what is run, and the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entrypoints.__main__ import main
from entrypoints.inputs.recipes import names
from entrypoints.inputs.roles import ROLES
from tests import ROOT
from tests.entrypoints.conftest import Recorder

SINGLE = {"ROLE": "single", "RECIPE": "qwen3-235b-a22b-w8a8/single-128k"}
PREFILL = {
    "ROLE": "prefill",
    "RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3",
    "LOCAL_IP": "10.0.0.1",
    "NIC": "eth0",
}
SECRET = "not-for-eyes"


def run(args: list[str], env: dict[str, Any], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    alone = {"PREFLIGHT": "off", "WAIT_TIMEOUT": "0"}  # neither devices nor peers are here
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **alone, **env}
    command = [sys.executable, "-m", "entrypoints", *args]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)


def out(
    capfdbinary: pytest.CaptureFixture[bytes], *args: str, env: dict[str, Any] | None = None
) -> str:
    assert main(list(args), env or {}) == 0
    captured = capfdbinary.readouterr()
    assert captured.err == b""
    return captured.out.decode()


def test_help(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    text = out(capfdbinary, "--help")
    for word in ("plan", "recipes", "roles", "LEADER_IP", "LWS_LEADER_ADDRESS"):
        assert word in text
    assert text == out(capfdbinary, "plan", "--help") == out(capfdbinary, "-h")
    assert max(map(len, text.splitlines())) <= 100


def test_roles(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = json.loads(out(capfdbinary, "roles", "--format", "json"))
    assert [row["name"] for row in rows] == list(ROLES)
    assert all(role in out(capfdbinary, "roles") for role in ROLES)


def test_recipes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = json.loads(out(capfdbinary, "recipes", "--format=json"))
    assert [row["name"] for row in rows] == names()
    (single,) = (row["roles"]["single"] for row in rows if row["name"] == SINGLE["RECIPE"])
    assert (single["nodes"], single["npus"], single["sizes"]) == (1, 8, {"tp": 8, "dp": 1})
    lines = out(capfdbinary, "recipes").splitlines()
    assert [line.split()[0] for line in lines[1:]] == names()
    detail = out(capfdbinary, "recipes", SINGLE["RECIPE"])
    assert detail.startswith(f"{SINGLE['RECIPE']}\n")
    assert "--max-num-seqs 32" in detail


@pytest.mark.parametrize(
    "args",
    [
        ["--format", "json", "--", "--max-num-seqs", "8"],
        ["--format", "json", "--max-num-seqs", "8"],
        ["--max-num-seqs=8", "--format=json"],
        ["--max_num_seqs", "8", "--format", "json"],
    ],
)
def test_plan_takes_flags(args: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    argv = json.loads(out(capfdbinary, "plan", *args, env=SINGLE))["argv"]
    assert argv[argv.index("--max-num-seqs") + 1] == "8"


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["plan", "--format", "xml"], "--format: 'xml'"),
        (["plan", "--format"], "--format: ''"),
        (["plan", "json"], "'json' is not a flag"),
        (["recipes", "--x"], "'--x' is not known"),
        (["recipes", "qwen3-32b-w4a4"], "did you mean qwen3-32b-w4a4/one-npu?"),
        (["roles", "--format", "env"], "'env' is not a format"),
        ([], "ROLE: is not set"),
        (["--seed", "1"], "ROLE: is not set"),
    ],
)
def test_wrong_arguments(args: list[Any], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args, {}) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert all(line.startswith("error: ") for line in captured.err.splitlines())


@pytest.mark.parametrize("form", ["text", "json", "env"])
@pytest.mark.parametrize("name", ["VLLM_API_KEY", "HF_TOKEN", "MY_PASSWORD_1", "a_secret"])
def test_secrets_are_not_shown(
    form: str, name: str, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"model: m\nenv: {{{name}: x}}\nroles: {{single: }}\n")
    env = {"ROLE": "single", "RECIPE": str(recipe), name: SECRET}
    args = ["plan", "--format", form, "--api-key", SECRET, SECRET, "--api_key=" + SECRET]
    text = out(capfdbinary, *args, env=env)
    assert SECRET not in text
    assert name in text
    assert form != "json" or json.loads(text)["env"][name] == "***"


def test_text_takes_a_secret_from_the_shell(recorder: Recorder, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: m\nenv: {A_TOKEN: x}\nroles: {single: }\n")
    script = run(["plan"], {"ROLE": "single", "RECIPE": str(recipe)}).stdout
    env = {"PATH": recorder.path}
    assert subprocess.run(["sh"], input=script, env=env, text=True, capture_output=True).returncode
    subprocess.run(["sh"], input=script, env={**env, "A_TOKEN": SECRET}, text=True, check=True)
    assert recorder.call()["env"]["A_TOKEN"] == SECRET


AWKWARD = "a b'c\"d$HOME`id`\\ !x"


def test_awkward_values_reach_vllm_alike(recorder: Recorder, tmp_path: Path) -> None:
    """Quotes, blanks and dollars: the script and the exec give vLLM the same."""
    recipe = tmp_path / "r.yaml"
    value = json.dumps(AWKWARD.replace("$HOME", "${WHO}$1"))
    recipe.write_text(f"model: m\nenv: {{A: {value}}}\nroles: {{single: }}\n")
    env = {
        "ROLE": "single",
        "RECIPE": str(recipe),
        "PATH": recorder.path,
        "PYTHONPATH": str(ROOT),
        "WHO": "w o",
    }
    args = ["--chat-template", AWKWARD, "--load-format=--y"]
    assert run(args, env).returncode == 0
    direct = recorder.call()
    script = run(["plan", "--", *args], env).stdout
    subprocess.run(["bash"], input=script, env=env, text=True, check=True)
    pasted = recorder.call()
    assert (
        direct["argv"]
        == pasted["argv"]
        == ["serve", "m", "--chat-template", AWKWARD, "--load-format=--y"]
    )
    assert direct["env"]["A"] == pasted["env"]["A"] == AWKWARD.replace("$HOME", "w o$1")


def test_line_break_has_no_place_in_an_env_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--format", "env"], {**SINGLE, "HCCL_BUFFSIZE": "1\n2"}) == 64
    assert "HCCL_BUFFSIZE" in capsys.readouterr().err


def test_bytes_that_are_not_utf8() -> None:
    env = {os.fsencode(k): os.fsencode(v) for k, v in SINGLE.items()}
    env |= {b"MODEL": b"/w/\xff", b"PYTHONPATH": os.fsencode(ROOT), b"LC_ALL": b"C.UTF-8"}
    command = [sys.executable, "-m", "entrypoints", "plan"]
    done = subprocess.run(command, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/w/\xff" in done.stdout


def test_start_warns_and_replaces_flags(recorder: Recorder) -> None:
    done = run(["--max-num-seqs", "8"], {**PREFILL, "PATH": recorder.path})
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["warning", "warning", "start"]
    argv = recorder.call()["argv"]
    assert argv[argv.index("--max-num-seqs") + 1] == "8"
    assert argv.count("--max-num-seqs") == 1


def test_stand_in_refuses_to_start(
    recorder: Recorder, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    env = {**SINGLE, "CANN_STANDIN": "1", "PATH": recorder.path}
    for args in ([], ["--seed", "1"]):
        done = run(args, env)
        assert done.returncode == 78
        assert "stand-in" in done.stderr
        assert not recorder.record.exists()
    assert "vllm serve" in out(capfdbinary, "plan", env=env)
    assert run(["echo", "hi"], env).stdout == "hi\n"


def test_anything_else_runs_as_it_is(recorder: Recorder) -> None:
    assert run(["vllm", "bench", "--x"], {"PATH": recorder.path}).returncode == 0
    assert recorder.call()["argv"] == ["bench", "--x"]
    assert run(["sh", "-c", "exit 3"], {}).returncode == 3


@pytest.mark.parametrize(
    ("args", "env", "code", "part"),
    [
        ([], SINGLE, 78, "vllm: is not found"),
        (["plam"], {}, 127, "did you mean plan?"),
        (["/etc/hostname"], {}, 126, "/etc/hostname: cannot be run"),
    ],
)
def test_what_cannot_run(args: list[Any], env: Any, code: int, part: str) -> None:
    done = run(args, env)
    assert done.returncode == code
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_pipe() -> None:
    command = f"{sys.executable} -m entrypoints --help | true"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True)
    assert done.stderr == b""


def test_works_from_any_directory(tmp_path: Path) -> None:
    done = run(["plan", "--format", "json"], SINGLE, cwd=tmp_path)
    assert json.loads(done.stdout)["argv"][:2] == ["vllm", "serve"]


def test_starts_without_heavy_imports() -> None:
    code = "import sys; from entrypoints.__main__ import main; main(['plan'], {});"
    code += "print(sorted({'dataclasses', 'argparse', 'pathlib', 'socket'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "1 1"),
        ({"OMP_NUM_THREADS": "8"}, "1 8"),
        ({"ASCEND_PLATFORM": "cpu"}, ""),
        ({"VLLM_ASCEND_RELEASE": "v0.11.0"}, ""),
        ({"VLLM_ASCEND_RELEASE": "v9"}, ""),
    ],
)
def test_any_other_command_has_what_upstreams_image_sets(given: dict[str, str], found: str) -> None:
    script = "echo $TASK_QUEUE_ENABLE $OMP_NUM_THREADS"
    assert run(["sh", "-c", script], given).stdout.strip() == found
