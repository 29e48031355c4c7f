"""What a shell completes: commands, options, and values."""

from __future__ import annotations

import subprocess
import sys

import pytest

from commands.completion import candidates
from commands.parser import Contexts
from commands.program import namespace, program
from tests import ROOT

CORE = ("--help", "--list")


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("ascend-images", {"build", "cluster.check", "import"}),
        ("ascend-images cluster.", {"cluster.check", "cluster.plan"}),
        ("ascend-images --", {"--help", "--list"}),
        ("ascend-images build", {"--platform", "--no-cache", "--help"}),
        ("ascend-images build --pl", {"--platform"}),
        ("ascend-images build --platform", {"a2", "a3", "cpu"}),
        ("ascend-images build --platform a", {"a2", "a3"}),
        ("ascend-images build --platform a2,", {"a2,a3"}),
        ("ascend-images build --platform =", {"a3", "--platform=a3"}),
        ("ascend-images build --platform = a", {"a3"}),
        ("ascend-images build --platform a3 --release", {"v0.13.0", "v0.13.0rc1"}),
        ("ascend-images build --platform a3 --format j", {"json"}),
        ("ascend-images recipes", {"qwen3-32b-w8a8/throughput"}),
        ("ascend-images recipes qwen3", {"qwen3-32b-w8a8/throughput"}),
        ("ascend-images plan --set", {"ROLE=single", "RECIPE=qwen3-32b-w8a8/throughput"}),
        ("ascend-images plan --set ROLE = s", {"single", "ROLE=single"}),
        ("ascend-images cluster.render FILE c", {"compose", "docker"}),
        ("ascend-images sbom IMAGE --at 'o", {"layout", "engine", "registry"}),
    ],
)
def test_candidates(line: str, some: set[str]) -> None:
    assert some <= set(candidates(line, Contexts(namespace), CORE))


@pytest.mark.parametrize(
    "line",
    [
        "ascend-images cluster.check",
        "ascend-images cluster.check clus",
        "ascend-images import a.sh",
        "ascend-images cluster.plan FILE --out",
        "ascend-images cluster.plan FILE --out pl",
    ],
)
def test_where_files_are_completed(line: str) -> None:
    assert list(candidates(line, Contexts(namespace), CORE)) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        program.run(["ascend-images", "--print-completion-script", shell])
    assert not end.value.code
    assert "--complete --" in capsys.readouterr().out


def test_bash_completes_with_it() -> None:
    """As `ascend-images build --platform a<TAB>`; `invoke` stands for it here."""
    script = f"""
        invoke() {{ {sys.executable} -m invoke "$@"; }}
        source <(invoke --print-completion-script bash | sed s/__main__.py/invoke/g)
        COMP_WORDS=(invoke build --platform a)
        COMP_CWORD=3
        _complete_invoke invoke a --platform
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("a2 a3\n", "")
