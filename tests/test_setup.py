"""setup.sh where the distribution lacks packages, apt is locked, or the engine is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ROOT

TOOLS = ("awk", "bash", "cat", "cmp", "cut", "dirname", "env", "grep", "id", "mktemp", "rm",
         "sha256sum", "sleep", "sort", "tail", "tr")  # fmt: skip
THERE = ("mmdebstrap", "docker-registry", "makeself", "skopeo", "wrk", "chromium", "shellcheck")
LOCKED = """\
E: Could not get lock /var/lib/apt/lists/lock. It is held by process 71 (unattended-upgr)
E: Unable to lock directory /var/lib/apt/lists/
"""
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
        environment = self.project / ".venv"
        (environment / "bin").mkdir(parents=True)
        (self.project / ".ci").mkdir()
        shutil.copy(ROOT / "setup.sh", self.project)
        for name in ("pyproject.toml", "requirements.txt", ".ci/requirements-dev.txt"):
            (self.project / name).write_text("")
        (environment / "bin/ascend-images").touch(0o755)
        (environment / "bin/invoke").symlink_to("ascend-images")
        empty = subprocess.run(["sha256sum"], stdin=subprocess.DEVNULL, capture_output=True)
        for name in (".stamp", ".stamp-dev"):
            (environment / name).write_bytes(empty.stdout)
        # npm, which comes from the environment, has no network.
        self.command("python", "exit 1", environment / "bin")

    def command(self, name: str, script: str, directory: Path | None = None) -> None:
        path = (directory or self.path) / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def engine(self, version: str) -> None:
        self.command("docker", DOCKER.format(engine=version))

    def packages(
        self, has: tuple[str, ...], install: str = "echo E: no network >&2; exit 100"
    ) -> None:
        """What apt has, and what it does when it installs."""
        known = "".join(f"{name}:\n  Candidate: 1.0\n" for name in has)
        self.command("apt-cache", f"printf '{known}'")
        self.command("apt-get", f'echo "$*" >>{self.directory}/apt.log\n'
                     f'case "$*" in *update*) ;; *) {install} ;; esac')  # fmt: skip

    def asked(self) -> list[str]:
        """What apt-get was called with."""
        log = self.directory / "apt.log"
        return log.read_text().splitlines() if log.exists() else []

    def setup(self, *options: str, **environment: str) -> tuple[int, str, list[str]]:
        answer = subprocess.run(
            ["bash", str(self.project / "setup.sh"), *options],
            capture_output=True,
            text=True,
            env={"PATH": str(self.path), **environment},
        )
        self.errors = answer.stderr
        missing = [line.removeprefix("still missing: ") for line in answer.stderr.splitlines()
                   if line.startswith("still missing: ")]  # fmt: skip
        return answer.returncode, answer.stdout, missing


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_the_distribution_lacks_is_named_with_where_to_get_it(machine: Machine) -> None:
    code, out, missing = machine.setup("--dev")
    assert code == 0, "an image can be built without"
    assert missing[:1] == [
        "cosign (optional, for signatures): https://github.com/sigstore/cosign/releases",
    ]
    assert [line.partition(" (")[0] for line in missing[1:]] == ["docker compose", "actionlint"]
    assert "warning   no package here: cosign" in machine.errors
    assert "no package here: docker-compose-v2 or docker-compose" in machine.errors
    assert "ok        skopeo (for tests)" in out


def test_building_needs_less_than_the_tests(machine: Machine) -> None:
    code, out, missing = machine.setup()
    assert code == 0
    assert [line.partition(" (")[0] for line in missing] == ["cosign"]
    assert "skopeo" not in out


def test_a_package_that_cannot_be_installed_does_not_stop_it(machine: Machine) -> None:
    machine.packages(has=("cosign", "docker-compose"))
    code, out, missing = machine.setup("--dev")
    assert code == 0
    assert "warning   apt-get cannot install cosign" in out
    assert len(missing) == 3


def test_one_call_installs_all_packages(machine: Machine) -> None:
    for name in ("skopeo", "chromium"):
        (machine.path / name).unlink()
    has = ("cosign", "docker-compose", "docker-compose-v2", "skopeo", "chromium",
           "fonts-dejavu-core")  # fmt: skip
    machine.packages(has, install="exit 0")
    machine.setup("--dev")
    installs = [call for call in machine.asked() if "install" in call]
    assert [call.partition("--no-install-recommends ")[2] for call in installs] == [
        "cosign docker-compose-v2 chromium fonts-dejavu-core skopeo"
    ]


def test_it_waits_while_apt_is_locked(machine: Machine) -> None:
    """Once for the package lists, then for the installation."""
    machine.packages(("cosign",))
    once = '[ -e {0} ] || {{ touch {0}; printf "%s" "$LOCKED" >&2; exit 100; }}'
    machine.command("touch", 'exec /usr/bin/env -i /usr/bin/touch "$@"')
    first, second = (once.format(machine.directory / name) for name in ("lists", "dpkg"))
    have = f"ln -s /bin/true {machine.path}/cosign;"
    machine.command("ln", 'exec /usr/bin/env -i /usr/bin/ln "$@"')
    machine.command("apt-get", f'case "$*" in *update*) {first} ;; *) {second}; {have} ;; esac')
    code, out, missing = machine.setup(LOCKED=LOCKED)
    assert (code, missing) == (0, [])
    assert out.count("waiting   apt is locked by process 71 (unattended-upgr)\n") == 2


def test_what_a_lock_keeps_from_being_installed_is_not_missing(machine: Machine) -> None:
    machine.command("apt-get", 'printf "%s" "$LOCKED" >&2; exit 100')
    code, out, missing = machine.setup(LOCKED=LOCKED, APT_LOCK_TIMEOUT="1")
    assert (code, missing) == (75, [])
    assert "missing" not in out
    assert "apt is still locked by process 71 (unattended-upgr) after 1 s" in machine.errors


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
    code, out, _ = machine.setup("--check")
    assert code == 1
    assert "missing   cosign (optional, for signatures)" in out
    assert machine.asked() == []
    assert machine.errors == "1 missing: run ./setup.sh\n"
    assert machine.setup("--check", "--dev")[0] == 1
    assert machine.errors == "3 missing: run ./setup.sh --dev\n"
