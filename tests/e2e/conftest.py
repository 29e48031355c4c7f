"""Real images, built once a run on the stand-in base, and the means to look into them.

The files run side by side. A test whose containers, networks, or tags have fixed names keeps them
to its own file, and a build in the checkout takes a lock: `build` and `building`.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.paths import WORK
from tests import ROOT
from tests.docs.blocks import scratch

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
SITE_PACKAGES = "/opt/vllm/lib/python3.11/site-packages"

pytestmark = pytest.mark.e2e


HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the engine."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock file, among all workers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, kind)
        yield


def building() -> AbstractContextManager[None]:
    """Keep other builds out of the checkout: they share files in build/."""
    return locked(WORK / "e2e-build.lock")


def listing() -> AbstractContextManager[None]:
    """Keep others from removing images, which the catalogue of the engine lists and then reads."""
    return locked(WORK / "e2e-images.lock")


LOAD = WORK / "e2e-load.lock"


@pytest.fixture(scope="module")
def cold_build() -> Iterator[None]:
    """For files whose builds keep every CPU busy for minutes: wait for `undisturbed` tests."""
    with locked(LOAD, fcntl.LOCK_SH):
        yield


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[None]:
    """For files that judge answers under deadlines: run beside no `cold_build`."""
    with locked(LOAD):
        yield


def remove(*tags: str) -> None:
    """Remove images from the engine, those of them that are there."""
    with listing():
        docker("rmi", *tags, check=False)


def docker(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, **options)
    if check and answer.returncode:
        pytest.fail(f"docker {' '.join(arguments[:6])}: {answer.stderr[-3000:]}")
    return answer


def invoke(
    *arguments: str, where: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands as a person would, in a directory with the project."""
    command = [sys.executable, "-m", "invoke", *arguments]
    environ = {**(os.environ if env is None else env), "PYTHONPATH": str(where)}
    return subprocess.run(command, cwd=where, capture_output=True, text=True, env=environ)


def project(directory: Path) -> Path:
    """The project in another directory, with an own build/: its builds wait for no others.

    Only the root file systems are shared.
    """
    scratch(directory)
    (WORK / "roots").mkdir(parents=True, exist_ok=True)
    (directory / "build" / "roots").symlink_to(WORK / "roots")
    return directory


def build(*arguments: str, where: Path = ROOT) -> list[dict[str, Any]]:
    with building() if where == ROOT else nullcontext():
        answer = invoke("build", "--format", "json", *arguments, where=where)
    assert answer.returncode == 0, answer.stderr[-4000:]
    return list(json.loads(answer.stdout))


@dataclass(frozen=True)
class Image:
    """A built image: what `invoke build --format json` said of it."""

    tag: str
    digest: str
    layers: dict[str, str]  # name → digest

    def run(
        self,
        *command: str,
        env: dict[str, str] | None = None,
        check: bool = True,
        entrypoint: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        options = [f"--env={name}={value}" for name, value in (env or {}).items()]
        options += [f"--entrypoint={entrypoint}"] if entrypoint is not None else []
        return docker("run", "--rm", *options, self.tag, *command, check=check)

    def python(self, code: str) -> str:
        return self.run("python", "-c", code, entrypoint="").stdout


def image(built: dict[str, Any]) -> Image:
    return Image(
        built["tag"], built["digest"], {one["name"]: one["digest"] for one in built["layers"]}
    )


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def images(run_directory: Path) -> dict[str, Image]:
    """The A2 and A3 images of the default release for this machine, built in one graph.

    The first worker that asks builds them; the others wait for it.
    """
    built = run_directory / "images.json"
    with locked(built.with_suffix(".lock")):
        if not built.exists():
            what = build("--platform=a2,a3", "--base=stand-in", f"--arch={NATIVE}")
            built.write_text(json.dumps(what))
    a2, a3 = json.loads(built.read_text())
    return {"a2": image(a2), "a3": image(a3)}


@pytest.fixture(scope="session")
def a3(images: dict[str, Image]) -> Image:
    return images["a3"]


@pytest.fixture
def unchanged_tag() -> Iterator[Callable[[str], None]]:
    """Hold a tag to the digest it had when the test began."""
    before: dict[str, str] = {}

    def remember(tag: str) -> None:
        before[tag] = docker("image", "inspect", "--format", "{{.Id}}", tag, check=False).stdout

    yield remember
    for tag, digest in before.items():
        assert docker("image", "inspect", "--format", "{{.Id}}", tag, check=False).stdout == digest
