"""Commands for work on this project."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.util import find_spec

from invoke import Context, Exit, task

UNIT = "not e2e and not index and not parser"
# The tests of a file share fixtures; the files keep their order: tests/e2e/conftest.py.
SIDE_BY_SIDE = ["--dist=loadfile", "--no-loadscope-reorder"]


@task(
    auto_shortflags=False,
    help={
        "unit": "only the tests that need no engine, no index, and no vLLM",
        "k": "only tests whose name matches",
    },
)
def test(c: Context, unit: bool = False, k: str = "") -> None:
    """Run the tests side by side; those marked e2e need a Docker engine and take minutes."""
    # Tests that need an engine wait for it much of the time: one worker more keeps all CPUs busy.
    workers = (os.cpu_count() or 1) + (not unit)
    only = [*(["-m", UNIT] if unit else []), *(["-k", k] if k else [])]
    code = _python(c, "pytest", f"--numprocesses={workers}", *SIDE_BY_SIDE, *only, warn=True)
    if code:
        raise Exit(code=code)


@task
def lint(c: Context) -> None:
    """Check style, types, generated pages, CI workflows, shell scripts and Dockerfiles."""
    _python(c, "ruff", "check", ".")
    _python(c, "ruff", "format", "--check", ".")
    _python(c, "mypy")
    _python(c, "invoke", "docs", "--check")
    c.run(".ci/lint", pty=sys.stdout.isatty())


def _python(c: Context, module: str, *arguments: str, warn: bool = False) -> int:
    """Run a module with this interpreter, on the terminal if there is one; its exit code."""
    if find_spec(module) is None:
        raise Exit(f"error: {module}: not installed (./setup.sh --dev installs it)", code=69)
    command = shlex.join([sys.executable, "-m", module, *arguments])
    ended = c.run(command, pty=sys.stdout.isatty(), warn=warn)
    return int(ended.exited)
