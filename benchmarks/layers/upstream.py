"""Upstream's shape: one Dockerfile, RUN lines of pip over the same locked packages, gzip."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from benchmarks.layers.docker import timed
from benchmarks.layers.ours import BUMP, PROJECT

DOCKERFILE = Path(__file__).parent / "upstream.Dockerfile"
LOCKS = PROJECT / "images" / "locks"
STAGES = PROJECT / "images" / "build" / "stages"
LAST = {"modelscope", "protobuf", "ray"}  # Dockerfile.a3's last pip line
ASCEND = {"torch-npu", "triton-ascend"}
WHEELS = "uv"  # stages/wheel.py needs it; taken away in the same RUN


class Upstream:
    """Builds from a context in `directory`; `logs` gets the output of each build."""

    def __init__(
        self,
        directory: Path,
        registry: str,
        arch: str,
        release: str,
        secrets: list[str],
        logs: Path,
    ) -> None:
        self.directory, self.registry, self.arch = directory, registry, arch
        self.release, self.secrets, self.logs = release, secrets, logs

    def fresh(self) -> None:
        """A build context of the locked packages."""
        shutil.rmtree(self.directory, ignore_errors=True)
        requirements = self.directory / "requirements"
        requirements.mkdir(parents=True)
        slices = LOCKS / self.release / self.arch
        entries = {
            name: entry
            for part in ("torch", "libraries", "dependencies")
            for name, entry in _entries((slices / f"{part}.txt").read_text())
        }
        rest = entries.keys() - LAST - ASCEND
        build = dict(_entries((LOCKS / "tools.txt").read_text()))
        _write(
            requirements / "build.txt",
            (entry for name, entry in build.items() if name not in rest | {WHEELS}),
        )
        _write(requirements / "uv.txt", [build[WHEELS]])
        _write(requirements / "vllm-dependencies.txt", (entries[n] for n in sorted(rest)))
        _write(requirements / "vllm-ascend-dependencies.txt", (entries[n] for n in sorted(ASCEND)))
        _write(requirements / "modelscope-ray.txt", (entries[n] for n in sorted(LAST)))
        shutil.copy2(slices / "mooncake.txt", requirements)
        shutil.copy2(slices / "vllm-ascend.txt", requirements)
        shutil.copy2(LOCKS / self.release / "sources.txt", requirements / "vllm.txt")
        shutil.copytree(
            PROJECT / "env", self.directory / "source"
        )  # a tree that stands for the source
        self.commit("first")

    def commit(self, name: str) -> None:
        """Upstream's source tree changes with each commit."""
        (self.directory / "source" / "COMMIT").write_text(f"{name}\n")

    def bump(self) -> None:
        shutil.copy2(BUMP, self.directory / "requirements" / "mooncake.txt")
        self.commit("bump")

    def build(self, soc_version: str, base: str, tag: str, name: str) -> float:
        """Wall seconds of `docker buildx build` with its default compression, pushed."""
        command = [
            *("docker", "buildx", "build", "--progress=plain", "--provenance=false"),
            *("--platform", f"linux/{self.arch}", "--file", str(DOCKERFILE)),
            *("--build-arg", f"BASE={base}", "--build-arg", f"SOC_VERSION={soc_version}"),
            *("--build-context", f"stages={STAGES}"),
            *(word for secret in self.secrets for word in ("--secret", secret)),
            *("--output", f"type=image,push=true,name={self.registry}/upstream:{tag}"),
            str(self.directory),
        ]
        return timed(command, self.logs / f"upstream-{name}.log")


def _entries(text: str) -> Iterable[tuple[str, str]]:
    """(name, lines) of each pinned package of a requirements file with hashes."""
    for part in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        if match := re.match(r"([\w.-]+)==", part):
            yield match[1], part


def _write(path: Path, entries: Iterable[str]) -> None:
    path.write_text("".join(entry.rstrip("\n") + "\n" for entry in entries))
