"""The workflows only call commands of this project, and have only the rights they need."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands.parser import Contexts
from commands.program import namespace
from tests import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
COMMANDS = (".venv/bin/invoke", "./setup.sh", "docker", ".ci/")
RIGHTS = {"contents": "read"}  # of a job that is not named here
MORE_RIGHTS = {
    ("bump.yaml", "bump"): {"contents": "write", "pull-requests": "write"},
    ("publish.yaml", "build"): {**RIGHTS, "packages": "write", "id-token": "write"},
    ("publish.yaml", "merge"): {**RIGHTS, "packages": "write", "id-token": "write"},
    ("publish.yaml", "check"): {**RIGHTS, "packages": "read"},
    ("publish.yaml", "catalogue"): {**RIGHTS, "packages": "read"},
    ("publish.yaml", "pages"): {"pages": "write", "id-token": "write"},
}


def _jobs() -> Iterator[Any]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield pytest.param(path, name, job, id=f"{path.stem}-{name}")


def _runs() -> Iterator[Any]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            for number, step in enumerate(job["steps"]):
                if "run" in step:
                    yield pytest.param(step["run"], id=f"{path.stem}-{name}-{number}")


def _invocations() -> Iterator[Any]:
    """Every `invoke TASK …` of workflows and of the scripts that they call."""
    scripts = [path for path in (ROOT / ".ci").iterdir() if path.is_file()]
    for path in (*WORKFLOWS, *scripts):
        for line in path.read_text().splitlines():
            if found := re.search(r"\.venv/bin/invoke ([^>)|]+)", line):
                yield pytest.param(shlex.split(found[1]), id=f"{path.name}-{found[1][:40]}")


def _problems(words: list[str]) -> list[str]:
    contexts = Contexts(namespace)
    if words[0] not in contexts:
        return [f"no command {words[0]}"]
    context = contexts[words[0]]
    known = {*context.flags, *context.inverse_flags}
    given = [word.partition("=")[0] for word in words[1:] if word.startswith("-")]
    return [f"{words[0]} has no {one}" for one in given if one not in known]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses: *(\S+)", path.read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == []


@pytest.mark.parametrize(("path", "name", "job"), list(_jobs()))
def test_a_job_has_few_rights_and_an_end(path: Path, name: str, job: dict[str, Any]) -> None:
    assert job["permissions"] == MORE_RIGHTS.get((path.name, name), RIGHTS)
    assert 0 < job["timeout-minutes"] <= 360
    assert yaml.safe_load(path.read_text())["permissions"] == {}
    assert "concurrency" in yaml.safe_load(path.read_text())


@pytest.mark.parametrize("run", list(_runs()))
def test_a_step_only_calls_what_can_be_called_at_a_desk(run: str) -> None:
    (line,) = run.strip().splitlines()
    assert "${{" not in line  # what others wrote (a tag's name) is no part of a command
    inner = re.search(r"\$\((\S+)", line)
    piped = line.partition(" | ")[2]
    called = inner[1] if inner else piped or line
    assert called.startswith(COMMANDS), line


@pytest.mark.parametrize("words", list(_invocations()))
def test_what_is_invoked_exists(words: list[str]) -> None:
    assert _problems(words) == []


def test_what_does_not_exist_is_found() -> None:
    assert _problems(["published"]) == ["no command published"]
    assert _problems(["publish", "--all", "--prat", "arm64"]) == ["publish has no --prat"]
