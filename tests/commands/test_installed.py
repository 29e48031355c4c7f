"""The project installed as a wheel: `ascend-images` works anywhere, or with the checkout around."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import common
from commands.entry import project
from tests import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]
PACKAGES = ("clusters", "commands", "common", "docs", "entrypoints", "env", "images", "upstream",
            "validation")  # fmt: skip
EXAMPLES = ROOT / "clusters/examples"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages and bin/ascend-images, without the project's dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tasks.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    stale = source / "build/lib/ascend_images/env/recipes/stale.yaml"
    stale.parent.mkdir(parents=True)
    stale.touch()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(wheel, check=True)
    (made,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(folder / "site"), made], check=True
    )
    return folder / "site"


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs the console script, by default in the root directory."""

    def run(*words: str, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(tmp_path)}
        command = [str(installed / "bin/ascend-images"), *words]
        return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)

    return run


def test_every_file_is_installed(installed: Path) -> None:
    def files(root: Path) -> set[Path]:
        of_packages = (path for name in PACKAGES for path in (root / name).rglob("*"))
        return {
            path.relative_to(root)
            for path in of_packages
            if path.is_file() and path.parent.name != "__pycache__"
        }

    assert files(installed / "ascend_images") == files(ROOT)
    assert {path.name for path in installed.iterdir()} == {
        "ascend_images",
        f"ascend_images-{common.__version__}.dist-info",
        "bin",
    }


def test_its_version(run: Run) -> None:
    assert run("--version").stdout == f"ascend-images {common.__version__}\n"


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("--list", "cluster.check    Find everything"),
        ("build --help", "Usage: ascend-images build [--OPTION]..."),
        (f"cluster.check {EXAMPLES}/single.yaml", "1 node, 1 container"),
        (f"cluster.plan {EXAMPLES}/pd-3node.yaml", "4 containers on 3 nodes"),
        (f"cluster.plan {EXAMPLES}/pd-3node.yaml --format svg", "<svg"),
        (f"cluster.render {EXAMPLES}/pd-3node.yaml compose", "services:"),
        ("cluster.schema", '"$schema"'),
        ("plan --set ROLE=single --set RECIPE=qwen3-32b-w8a8/throughput", "vllm serve"),
        ("recipes", "qwen3-32b-w8a8/throughput"),
        ("recipes qwen3-32b-w8a8/throughput", "throughput"),
        ("matrix", "v0.13.0rc1"),
        ("render --platform a3", "FROM quay.io/ascend/cann"),
        ("render --platform cpu", "FROM "),
    ],
)
def test_a_command_works_from_any_directory(command: str, part: str, run: Run) -> None:
    done = run(*command.split())
    assert (done.returncode, part in done.stdout) == (0, True), done.stderr


@pytest.mark.e2e
def test_a_build_is_planned_from_any_directory(run: Run) -> None:
    done = run("build", "--dry-run", "--platform", "a3", "--base", "stand-in")
    assert (done.returncode, "a3-standin" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    "command", ["test", "lint", "docs", "bump newest", "lock", "flags", "audit"]
)
def test_a_command_for_a_checkout_says_so(command: str, run: Run) -> None:
    done = run(*command.split())
    name = command.split()[0]
    assert done.returncode == 64
    assert done.stderr == f"error: {name}: works only in a checkout of the project (clone it)\n"


def test_what_a_checkout_has_is_used_in_it(run: Run, tmp_path: Path) -> None:
    """Its recipes, and build/ in it."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "env", checkout / "env")
    for path in ROOT.iterdir():
        if path.name not in (".git", "build", "env"):
            (checkout / path.name).symlink_to(path)
    recipe = checkout / "env/recipes/qwen3-32b-w8a8/throughput.yaml"
    shutil.copy(recipe, recipe.with_name("of-this-checkout.yaml"))
    assert "of-this-checkout" in run("recipes", cwd=checkout).stdout
    assert "of-this-checkout" in run("recipes", cwd=checkout / "env/recipes").stdout
    assert "of-this-checkout" not in run("recipes").stdout


def test_where_the_project_is(tmp_path: Path) -> None:
    assert project(ROOT) == ROOT
    assert project(ROOT / "tests/commands") == ROOT
    assert project(tmp_path) == ROOT  # where this module is


@pytest.mark.parametrize(
    ("given", "work"),
    [
        ("/cache", "/cache/ascend-images"),
        ("", "~/.cache/ascend-images"),
        ("a", "~/.cache/ascend-images"),
    ],
)
def test_what_is_kept_is_in_the_users_cache(given: str, work: str, installed: Path) -> None:
    """A directory in XDG_CACHE_HOME must be absolute (XDG Base Directory Specification)."""
    program = "from common.paths import WORK; print(WORK)"
    path = str(installed / "ascend_images")
    environ = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": given}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, cwd="/", stdout=-1, text=True
    )
    assert done.stdout.strip() == str(Path(work).expanduser())
