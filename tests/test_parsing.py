"""What is typed on the command line: several arguments, help, and what is typed wrong."""

from __future__ import annotations

import pytest

from commands.program import program

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
            "--push: takes no value, but is given 'yes'",
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
