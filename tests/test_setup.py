"""setup.sh on a machine whose distribution lacks some of it: it goes on, and names all of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ROOT

TOOLS = ("awk", "bash", "cat", "cmp", "cut", "dirname", "env", "grep", "id", "sha256sum",
         "sort", "tail")  # fmt: skip
THERE = ("buildx", "mmdebstrap", "docker-registry", "makeself", "skopeo", "wrk", "chromium")
DOCKER = """\
case "$*" in
  version*) echo {engine} ;;
  info*) echo "[[driver-type io.containerd.snapshotter.v1]]" ;;
  "buildx version") echo "github.com/docker/buildx v0.20.0-desktop.1 abc" ;;
  *) exit 1 ;;
esac
"""


class Machine:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.project = directory / "project"
        self.path = directory / "bin"
        self.path.mkdir()
        for name in TOOLS:
            found = shutil.which(name)
            assert found, name
            (self.path / name).symlink_to(found)
        # Not the one of PATH, which may be a script that looks for others there.
        self.command("python3", f'exec {sys.executable} "$@"')
        for name in THERE:
            self.command(name, "")
        self.engine("27.5.1-0ubuntu1")
        self.command("id", "echo 0")
        self.packages(has=())
        self.command("npm", "echo no network >&2; exit 1")
        environment = self.project / ".venv" / "bin"
        environment.mkdir(parents=True)
        shutil.copy(ROOT / "setup.sh", self.project)
        for name in ("pyproject.toml", "requirements.txt"):
            (self.project / name).write_text("")
        (environment / "invoke").touch(0o755)
        empty = subprocess.run(["sha256sum"], stdin=subprocess.DEVNULL, capture_output=True)
        (self.project / ".venv" / ".stamp").write_bytes(empty.stdout)

    def command(self, name: str, script: str) -> None:
        path = self.path / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def engine(self, version: str) -> None:
        self.command("docker", DOCKER.format(engine=version))

    def packages(self, has: tuple[str, ...]) -> None:
        """What apt has; to install it fails, as without a network."""
        known = "|".join(has) or "none"
        self.command("apt-cache", f'case "$2" in {known}) ;; *) exit 100 ;; esac')
        self.command(
            "apt-get", 'case "$1" in update) ;; *) echo "E: no network" >&2; exit 100 ;; esac'
        )

    def setup(self, *options: str) -> tuple[int, str, list[str]]:
        answer = subprocess.run(
            ["bash", str(self.project / "setup.sh"), *options],
            capture_output=True,
            text=True,
            env={"PATH": str(self.path)},
        )
        missing = [line.removeprefix("still missing: ") for line in answer.stderr.splitlines()
                   if line.startswith("still missing: ")]  # fmt: skip
        return answer.returncode, answer.stdout, missing


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_the_distribution_lacks_is_named_with_where_to_get_it(machine: Machine) -> None:
    code, out, missing = machine.setup()
    assert code == 0, "an image can be built without"
    assert missing[:2] == [
        "oras (for --push): https://github.com/oras-project/oras/releases",
        "cosign (for signatures): https://github.com/sigstore/cosign/releases",
    ]
    assert [line.partition(" (")[0] for line in missing[2:]] == ["docker compose", "actionlint"]
    assert "warning   no package here: cosign" in out
    assert "ok        skopeo (for the tests)" in out


def test_a_package_that_cannot_be_installed_does_not_stop_it(machine: Machine) -> None:
    machine.packages(has=("oras", "cosign", "docker-compose"))
    code, out, missing = machine.setup()
    assert code == 0
    assert "warning   apt-get cannot install cosign" in out
    assert len(missing) == 4


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda one: one.engine("24.0.7"), "Docker engine 26 or later"),
        (lambda one: one.command("docker", "exit 1"), "a Docker engine that answers"),
    ],
)
def test_without_an_engine_nothing_can_be_built(
    machine: Machine, spoil: Callable[[Machine], None], named: str
) -> None:
    spoil(machine)
    code, _, missing = machine.setup()
    assert code == 1
    assert any(line.startswith(f"{named}: https://docs.docker.com") for line in missing)
    assert any(line.startswith("cosign") for line in missing), "it went on to the end"


def test_check_changes_nothing(machine: Machine) -> None:
    machine.command("apt-get", f"touch {machine.directory}/called")
    code, out, _ = machine.setup("--check")
    assert code == 1
    assert "missing   cosign (for signatures)" in out
    assert not (machine.directory / "called").exists()
