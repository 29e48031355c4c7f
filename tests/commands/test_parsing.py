"""What is typed on the command line: several arguments, help, and what is typed wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands.parser import Contexts
from commands.program import namespace, program
from tests import ROOT

EXAMPLE = "clusters/examples/single.yaml"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = 0
    try:
        program.run(["ascend-images", *words])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "verify http://127.0.0.1:9 --timeout abc",
            "--timeout: 'abc' is not a number",
        ),
        (
            "verify http://127.0.0.1:9 --timeout=abc",
            "--timeout: 'abc' is not a number",
        ),
        (
            f"cluster.up {EXAMPLE} --timeout abc",
            "--timeout: 'abc' is not a number",
        ),
        (
            "biuld --platform a3",
            "biuld: is not a command (did you mean build?)",
        ),
        (
            "cluster.chek FILE",
            "cluster.chek: is not a command (did you mean cluster.check or cluster.schema?)",
        ),
        (
            "zzz",
            "zzz: is not a command (ascend-images --list)",
        ),
        (
            "--help biuld",
            "biuld: is not a command (did you mean build?)",
        ),
        (
            "build --platfrom a3",
            "--platfrom: is not an option of build (did you mean --platform?)",
        ),
        (
            "build --zzz",
            "--zzz: is not an option of build (ascend-images build --help)",
        ),
        (
            "build -p a3",
            "-p: is not an option of build (ascend-images build --help)",
        ),
        (
            "--lst",
            "--lst: is not an option of ascend-images (did you mean --list?)",
        ),
        (
            "build --platform",
            "--platform: needs a value",
        ),
        (
            "build --platform --push",
            "--platform: needs a value",
        ),
        (
            "build --platform a2 --platform a3",
            "--platform: is given twice",
        ),
        (
            "build --push=yes",
            "--push: takes no value, but got 'yes'",
        ),
        (
            "cluster.check",
            "FILE: is missing (ascend-images cluster.check FILE [--OPTION]...)",
        ),
        (
            "cluster.check --format json",
            "FILE: is missing (ascend-images cluster.check FILE [--OPTION]...)",
        ),
        (
            "cluster.render FILE",
            "TO: is missing (ascend-images cluster.render FILE TO [--OPTION]...)",
        ),
        (
            "cluster.check a b",
            "cluster.check: takes no argument 'b' "
            "(ascend-images cluster.check FILE [--OPTION]...)",
        ),
        (
            f"cluster.check {EXAMPLE} --format xml",
            "--format: 'xml' is not known (text or json)",
        ),
        (
            "plan --format xml",
            "--format: 'xml' is not known (text, json or env)",
        ),
    ],
)  # fmt: skip
def test_what_is_typed_wrong(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *words.split())
    assert (code, out, err) == (64, "", f"error: {message}\n")


@pytest.mark.parametrize("name", list(Contexts(namespace)))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it is asked before or after what else the command needs, or instead of it."""
    code, out, err = run(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: ascend-images {name}")
    assert run(capsys, "--help", name) == (0, out, "")
    assert run(capsys, name, "-h") == (0, out, "")
    (line,) = [line for line in run(capsys, "--list")[1].splitlines() if f"  {name} " in line]
    assert len(line) <= 80
    assert not line.endswith(".")
    assert out.splitlines()[2].startswith(line.split("  ")[-1].strip())


@pytest.mark.parametrize("name", list(Contexts(namespace)))
def test_every_option_has_help(name: str) -> None:
    context = Contexts(namespace)[name]
    assert [option for option, one in context.flags.items() if not one.help] == []
    assert [option for option in context.flags if not option.startswith("--")] in ([], ["-k"])


def test_help_comes_before_what_is_missing_or_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "cluster.plan", "FILE", "--node", "n", "--help", "--zzz")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: ascend-images cluster.plan FILE [--OPTION]...\n")
    assert "Arguments:\n  FILE  a cluster file" in out


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("build", "build [--OPTION]..."),
        ("cluster.diff", "cluster.diff OLD NEW [--OPTION]..."),
        ("cluster.schema", "cluster.schema"),
        ("import", "import [SCRIPT...] [--OPTION]..."),
        ("recipes", "recipes [NAME...] [--OPTION]..."),
    ],
)
def test_usage_shows_arguments(name: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, name, "--help")[1].splitlines()[0] == f"Usage: ascend-images {usage}"


def test_commands_are_listed_by_reader(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list")
    assert code == 0
    groups = [line for line in out.splitlines() if line.endswith(":")]
    assert groups == ["Run:", "Build:", "Publish:", "Maintain:"]
    listed = re.findall(r"^  (\S+)", out, re.MULTILINE)
    assert sorted(listed) == sorted(Contexts(namespace))
    assert run(capsys)[1].endswith(out)


def test_invoke_lists_the_same() -> None:
    command = [sys.executable, "-m", "invoke", "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "\nPublish:\n  publish " in done.stdout
    assert done.stdout.endswith("\ninvoke COMMAND --help explains a command.\n")


@pytest.mark.parametrize("name", ["invoke", "ascend-images"])
def test_help_alone_lists_the_commands(name: str, tmp_path: Path) -> None:
    """The programs of .venv: setup.sh makes `invoke` a link to `ascend-images`."""
    program = tmp_path / name
    program.symlink_to(Path(sys.executable).with_name("ascend-images"))
    done = subprocess.run([program, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {name} COMMAND ")
    assert "\nPublish:\n  publish " in done.stdout
    assert done.stdout.endswith(f"\n{name} COMMAND --help explains a command.\n")
    command = f"{program} --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout in ("0\n", "141\n"), done.stderr) == (True, "")


@pytest.mark.parametrize("words", ["--list", "build --help", "recipes", "matrix"])
@pytest.mark.parametrize("redirection", ["", "2>&1"])
def test_a_closed_pipe_ends_quietly(words: str, redirection: str) -> None:
    command = f"{sys.executable} -m invoke {words} {redirection} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout in ("0\n", "141\n")


def test_an_error_on_a_closed_pipe_keeps_its_exit_code() -> None:
    command = f"{sys.executable} -m invoke build --zzz 2>&1 | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("64\n", "")


def test_several_commands_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "cluster.schema", "cluster.check", EXAMPLE)
    assert code == 0
    assert out.index('"$schema"') < out.index("1 node, 1 container")


def test_a_value_may_look_like_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--set", "ROLE=single", "--set", "MODEL=m", "--arguments", "--seed 1")
    code, out, err = run(capsys, "plan", *words)
    assert (code, "--seed 1" in out) == (0, True), err
