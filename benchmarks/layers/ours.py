"""Our shape: the project's own command line, in a copy of the project that the cases may edit."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from benchmarks.layers.docker import timed

PROJECT = Path(__file__).parent.parent.parent
ROOTS = PROJECT / "build" / "roots"
PARTS = (
    *("benchmarks", "clusters", "commands", "common", "entrypoints", "env", "images"),
    *("tasks.py", "pyproject.toml"),
)
BUMP = Path(__file__).parent / "bump.txt"


class Ours:
    """Builds in `directory`, pushes to `registry`; `logs` gets the output of each build."""

    def __init__(self, directory: Path, registry: str, arch: str, release: str, logs: Path) -> None:
        self.directory, self.registry, self.arch = directory, registry, arch
        self.release, self.logs = release, logs

    def fresh(self) -> None:
        """The project as it is now; only the root file systems of an earlier copy are kept."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        for part in PARTS:
            source = PROJECT / part
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, self.directory / part, ignore=ignored)
            else:
                shutil.copy2(source, self.directory / part)
        (self.directory / "build").mkdir()
        shutil.copytree(ROOTS, self.directory / "build" / "roots", copy_function=os.link)

    def build(self, platform: str, base: str, name: str) -> float:
        """Wall seconds of `invoke build` for one platform, Python's start included."""
        command = [
            *(sys.executable, "-m", "benchmarks.layers.cli", "build", "--platform", platform),
            *("--release", self.release, "--arch", self.arch, "--base", base),
            *("--tools", "debian", "--registry", self.registry, "--push"),
        ]
        log = self.logs / f"ours-{name}.log"
        steps = log.with_suffix(".rawjson")
        steps.unlink(missing_ok=True)
        environment = {**os.environ, "BENCHMARK_RAWJSON": str(steps)}
        return timed(command, log, directory=self.directory, environment=environment)

    def bare(self, name: str) -> float:
        """Wall seconds of a bare buildx for what was built last: same Dockerfile, same output."""
        file = str(self.directory / "build" / "bake" / "bake.json")
        command = ["docker", "buildx", "bake", "--progress=rawjson", "--file", file]
        return timed(command, self.logs / f"bare-{name}.log", directory=self.directory)

    def bump(self) -> None:
        """Another Mooncake, as `invoke lock` would write it: the pins, the record, the slice."""
        images = self.directory / "images"
        locks = images / "locks" / self.release
        before = _version((locks / self.arch / "mooncake.txt").read_text())
        after = _version(BUMP.read_text())
        pins = images / "releases" / f"{self.release}.yaml"
        pattern = rf"(mooncake: \{{version: ){re.escape(before)}"
        changed, count = re.subn(pattern, rf"\g<1>{after}", pins.read_text(), count=1)
        if count != 1:
            raise ValueError(f"{pins}: no Mooncake {before}")
        pins.write_text(changed)
        record = locks / "lock.json"
        record.write_text(record.read_text().replace(f"engine=={before}", f"engine=={after}"))
        for slice_file in locks.glob("*/mooncake.txt"):
            shutil.copy2(BUMP, slice_file)


def _version(slice_text: str) -> str:
    match = re.match(r"mooncake-transfer-engine==(\S+)", slice_text)
    if match is None:
        raise ValueError("the slice does not start with mooncake-transfer-engine==")
    return match[1]
