"""Real images, built once a session on the stand-in base, and the means to look into them."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests import ROOT

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
SITE_PACKAGES = "/opt/vllm/lib/python3.11/site-packages"

pytestmark = pytest.mark.e2e


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the engine; what only the native images serve runs first."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def docker(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, **options)
    if check and answer.returncode:
        pytest.fail(f"docker {' '.join(arguments[:6])}: {answer.stderr[-3000:]}")
    return answer


def invoke(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands as a person would."""
    command = [sys.executable, "-m", "invoke", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def build(*arguments: str) -> list[dict[str, Any]]:
    answer = invoke("build", "--format", "json", *arguments)
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
def images() -> dict[str, Image]:
    """The A2 and A3 images of the default release for this machine, built in one graph."""
    a2, a3 = build("--platform=a2,a3", "--base=stand-in", f"--arch={NATIVE}")
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium-headless-shell", "chromium")
    program = next(filter(None, map(shutil.which, names)), None)
    assert program, "./setup.sh --dev installs one of " + ", ".join(names)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()
