"""What the build side's unit tests share: the matrix, broken copies of it, and a docker that only
says what a test put in its mouth. No test here reaches an engine or a network."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from common.errors import UserError
from images import matrix as matrices
from images.matrix import Matrix, Variant

# The same examples on every run: a failure here is a change, never luck.
settings.register_profile(
    "unit",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("unit")


class FakeDocker:
    """An executable `docker` that answers by the first pattern its arguments match.

    It writes every call to `log`, and fails for a command that no test gave an answer for.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "calls"
        self._cases: list[str] = []
        self._write()

    def answers(
        self, pattern: str, out: str = "", err: str = "", code: int = 0, run: str = ":"
    ) -> None:
        """For arguments like the shell `pattern`: run the shell line, print, and exit."""
        number = len(self._cases)
        for name, text in (("out", out), ("err", err)):
            (self.directory / f"{number}.{name}").write_text(text)
        self._cases.append(
            f"{pattern.replace(' ', chr(92) + ' ')})\n  {run}\n"
            f'  cat "$here/{number}.out"\n  cat "$here/{number}.err" >&2\n  exit {code} ;;\n'
        )
        self._write()

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def _write(self) -> None:
        script = self.directory / "docker"
        script.write_text(
            f"#!/bin/sh\nhere={shlex.quote(str(self.directory))}\n"
            f'echo "$*" >> "$here/calls"\ncase "$*" in\n{"".join(self._cases)}esac\n'
            'echo "this test has no answer for: docker $*" >&2\nexit 125\n'
        )
        script.chmod(0o755)


@pytest.fixture(autouse=True)
def docker(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """The only docker that a unit test can reach."""
    directory = tmp_path_factory.mktemp("docker")
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return FakeDocker(directory)


@pytest.fixture
def no_docker(docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without docker."""
    empty = tmp_path / "empty-bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    return matrices.load()


@pytest.fixture(scope="session")
def variant(matrix: Matrix) -> Callable[..., Variant]:
    """A variant of the reference release unless another is named."""

    def make(platform: str = "a3", os: str = "ubuntu22.04", release: str | None = None) -> Variant:
        return matrix.variant(release, platform, os)

    return make


# A release more must not make an edit fit twice.
EDITED = ("v0.11.0", "v0.13.0rc1", "v0.13.0", "v0.15.0rc1", "v0.18.0", "v0.23.0.post1")


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the committed matrix and some of its releases with (old, new) edits, each of which
    must fit once in all of them together."""

    def edit(*edits: tuple[str, str]) -> Path:
        files = [matrices.PATH, *(matrices.RELEASES / f"{name}.yaml" for name in EDITED)]
        texts = {path.relative_to(matrices.PATH.parent): path.read_text() for path in files}
        for old, new in edits:
            hits = {path: text.count(old) for path, text in texts.items() if old in text}
            assert sum(hits.values()) == 1, f"{old!r} is {hits} times in the matrix"
            (path,) = hits
            texts[path] = texts[path].replace(old, new)
        for path, text in texts.items():
            target = tmp_path / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
        return tmp_path / matrices.PATH.name

    return edit


@pytest.fixture
def problems_of() -> Callable[..., list[str]]:
    """What a call refuses: the lines of its UserError, whose exit code must be `code`."""

    def call(function: Callable[[], object], code: int) -> list[str]:
        with pytest.raises(UserError) as raised:
            function()
        assert raised.value.exit_code == code
        return [str(problem) for problem in raised.value.findings]

    return call
