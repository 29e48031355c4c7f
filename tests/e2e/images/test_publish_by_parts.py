"""publish --part on one machine after the other, and --merge, with a real registry and cosign."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.e2e.conftest import invoke
from tests.e2e.images.test_publish import Registry

TAG = "v0.13.0rc1-a3-standin"
WHAT = ("--platform=a3", "--base=stand-in", "--allow-missing")
KILLER = "#!/bin/sh\nkill -9 $PPID\n"  # a cosign that is the end of whoever calls it


class Machines:
    """One registry, and machines that publish to it; each test has a team of its own."""

    def __init__(self, registry: Registry, scratch: Path) -> None:
        self.registry = registry
        self.scratch = scratch
        environment = {**os.environ, "COSIGN_PASSWORD": ""}
        subprocess.run(
            ["cosign", "generate-key-pair"],
            cwd=scratch,
            env=environment,
            check=True,
            capture_output=True,
        )

    def publish(
        self, team: str, machine: str, *options: str, path: str = "/usr/bin"
    ) -> subprocess.CompletedProcess[str]:
        directory = self.scratch / team / machine
        directory.mkdir(parents=True, exist_ok=True)
        key = f"--key={self.scratch}/cosign.key"
        return subprocess.run(
            [sys.executable, "-m", "tests.e2e.invoke_small", str(directory), "publish",
             f"--registry={self.registry.host}/{team}", "--format=json", *WHAT, key,
             "--no-transparency-log", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
        )  # fmt: skip

    def action(self, team: str, machine: str, *options: str) -> str:
        """What was done for the image, which must not have failed."""
        answer = self.publish(team, machine, *options)
        assert answer.returncode == 0, answer.stderr
        (done,) = json.loads(answer.stdout)
        return str(done["action"])

    def check(self, team: str) -> None:
        """Signature, SBOM and provenance of each architecture, and all else: nothing is wrong."""
        image = f"{self.registry.host}/{team}/vllm-ascend:{TAG}"
        answer = invoke(
            "conformance", image, f"--key={self.scratch}/cosign.pub", "--no-transparency-log"
        )
        assert answer.returncode == 0, answer.stderr

    def tags(self, team: str) -> set[str]:
        return {
            tag
            for tag in self.registry.tags(f"{team}/vllm-ascend")
            if not tag.startswith(("tmp-", "sha256-"))
        }


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.start()
    try:
        yield Machines(registry, tmp_path_factory.mktemp("machines"))
    finally:
        registry.kill()


@pytest.fixture
def killer(tmp_path: Path) -> str:
    cosign = tmp_path / "cosign"
    cosign.write_text(KILLER)
    cosign.chmod(0o755)
    return str(tmp_path)


def _seconds() -> float:
    """Of a processor, in all commands that have ended: what else the machine does counts not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_two_machines_and_a_merge_make_an_image_that_passes(machines: Machines) -> None:
    assert machines.action("good", "arm", "--part=arm64") == "build"
    assert machines.action("good", "arm", "--part=arm64") == "skip"
    refused = machines.publish("good", "third", "--merge")
    assert refused.returncode == 65
    assert "the registry has no amd64 with a signed provenance" in refused.stderr
    assert machines.tags("good") == set()

    assert machines.action("good", "amd", "--part=amd64") == "build"
    assert machines.tags("good") == set()
    assert machines.action("good", "third", "--merge") == "move"
    machines.check("good")
    since, before = len(machines.registry.log()), _seconds()
    assert machines.action("good", "third", "--merge") == "skip"
    assert machines.registry.uploaded("good/vllm-ascend", since) == []
    assert _seconds() - before < 3


@pytest.mark.parametrize("machine", ["arm", "another"])
def test_a_part_cut_off_before_its_attestation(
    machines: Machines, machine: str, killer: str
) -> None:
    """Run again there, or on a machine that never built it, it ends with all that belongs to it."""
    team = f"cut-{machine}"
    cut = machines.publish(team, "arm", "--part=arm64", path=killer)
    assert cut.returncode == -9
    assert machines.registry.uploaded(f"{team}/vllm-ascend"), "it was cut off before it pushed"
    assert machines.action(team, "amd", "--part=amd64") == "build"
    again = machines.action(team, machine, "--part=arm64")
    assert again == {"arm": "push", "another": "build"}[machine]
    assert machines.action(team, "third", "--merge") == "move"
    machines.check(team)
    uploads = machines.registry.uploaded(f"{team}/vllm-ascend")
    assert len(uploads) == len(set(uploads)), "a blob was sent twice"


def test_one_machine_cut_off_before_an_attestation(machines: Machines, killer: str) -> None:
    assert machines.publish("whole", "one", path=killer).returncode == -9
    assert machines.tags("whole") == set()
    assert machines.action("whole", "another") == "build"
    machines.check("whole")
