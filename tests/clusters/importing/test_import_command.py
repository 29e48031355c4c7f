"""`invoke import` on the command line: several scripts, what it prints, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.program import program
from tests.clusters.importing.imports import scripts


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = 0
    try:
        program.run(["invoke", "import", *words])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_scripts_stand_before_between_and_after_options(
    order: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = scripts(tmp_path, {"a.sh": "vllm serve m -tp 8", "b.sh": "vllm serve m -tp 4"})
    words = [[str(one)], [str(two)], ["--out", str(tmp_path / "out"), "--name", "check"]]
    code, out, _ = run(capsys, *(word for i in order for word in words[i]))
    assert code == 0
    assert f"{one}:1: serve-" in out
    assert f"{two}:1: serve-" in out
    assert "2 variables" not in out
    assert (tmp_path / "out/cluster.yaml").read_text().startswith("name: check\n")


def test_json_has_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "cd /x\nexport A=1\nvllm serve m --port $P \\\n# why\n--seed 1"
    (one,) = scripts(tmp_path, {"a.sh": text})
    code, out, _ = run(capsys, str(one), "--out", str(tmp_path / "out"), "--format", "json")
    (made,) = json.loads(out)
    assert code == 0
    assert made["scripts"][0]["script"] == f"{one}:3"
    assert made["not_read"] == [f"{one}:1: cd /x"]
    assert made["read_as_meant"] == [f"{one}:4: a comment ends the command; reading goes on"]
    assert {(item["name"], item["stands"]) for item in made["open"]} >= {("P", "8000")}
    assert made["lost"] == []
    assert set(made["files"]) == {"recipe.yaml", "cluster.yaml"}


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ([], 64, "SCRIPT: is missing"),
        (["missing.sh"], 65, "missing.sh: cannot be read"),
        (["{a}", "--set", "x"], 64, "--set: 'x' has no value"),
        (["{a}", "--release", "v9"], 64, "--release: 'v9' is unknown"),
        (["{a}", "--platform", "a9"], 64, "--platform: 'a9' is unknown"),
        (["{a}", "--format", "xml"], 64, "--format: 'xml' is not known"),
        (["{stray}"], 65, "2: more: does not belong to a flag"),
    ],
)
def test_exit_codes(
    words: list[str],
    code: int,
    part: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = {"a.sh": "vllm serve m", "stray.sh": "\nvllm serve m --enforce-eager more"}
    files = {path.stem: str(path) for path in scripts(tmp_path, texts)}
    given = [word.format(**files) for word in words]
    found, out, err = run(capsys, *given, "--out", str(tmp_path / "out"))
    assert found == code
    assert part in out + err
    assert (tmp_path / "out").exists() == ("{stray}" in words)


def test_values_for_what_is_left_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'ip="xxxx"\nexport HCCL_IF_IP=$ip\nvllm serve m -tp 8'
    texts = {"a.sh": text, "b.sh": text}
    files = [str(path) for path in scripts(tmp_path, texts)]
    given = ("--set", "a.sh:ip=10.0.0.1", "--set", "b:ip=10.0.0.2")
    code, _, _ = run(capsys, *files, *given, "--out", str(tmp_path / "out"))
    assert code == 0
    cluster = (tmp_path / "out/cluster.yaml").read_text()
    assert "node0: 10.0.0.1\n  node1: 10.0.0.2\n" in cluster
    assert "to fill in" not in cluster
