"""Commands for work on this project."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

from invoke import Exit

from commands.command import command, option, output
from commands.options import FORMAT
from common.errors import EX_UNAVAILABLE, user_error
from common.paths import ROOT

UNIT = "not e2e and not index and not parser"
# The tests of a file share fixtures; the files keep the order that tests/conftest.py gives them.
SIDE_BY_SIDE = ("--dist=loadfile", "--no-loadscope-reorder")


@command(checkout=True)
def test(
    unit: bool = option("only the tests that need no engine, no index, and no vLLM"),
    k: str = option("only tests whose name matches"),
) -> None:
    """Run the tests side by side

    Those marked e2e need a Docker engine and take minutes.
    """
    # Tests that need an engine wait for it much of the time: one worker more keeps all CPUs busy.
    workers = (os.cpu_count() or 1) + (not unit)
    only = [*(["-m", UNIT] if unit else []), *(["-k", k] if k else [])]
    _python("pytest", f"--numprocesses={workers}", *SIDE_BY_SIDE, *only)


@command(checkout=True)
def lint() -> None:
    """Check style, types, generated pages, workflows and scripts"""
    _python("ruff", "check", ".")
    _python("ruff", "format", "--check", ".")
    _python("mypy")
    _python("invoke", "docs", "--check")
    _run(".ci/lint")


@command(checkout=True)
def docs(
    check: bool = option("write nothing; list pages that differ from the data, and exit with 65"),
    format: str = FORMAT,
) -> None:
    """Generate docs/reference from the data

    Compatibility, roles, checks, recipes and what each release changes. The same data give the same
    bytes; never edit these pages by hand.
    """
    from docs.render import reference
    from images.matrix import load

    made = reference.pages(load())
    if check:
        reference.check(made)
    found = reference.states(made) if check else reference.write(made)
    rows = [{"page": str(path.relative_to(ROOT)), "was": state} for path, state in found.items()]
    output(format, rows, lambda: "\n".join(f"{row['was']:8} {row['page']}" for row in rows))


def _python(module: str, *arguments: str) -> None:
    """Run a module with this interpreter, as `_run` does."""
    if find_spec(module) is None:
        raise user_error(module, "not installed", "./setup.sh --dev installs it", EX_UNAVAILABLE)
    _run(sys.executable, "-m", module, *arguments)


def _run(*command: str) -> None:
    """Run a program in the project's directory; end with its exit code when it fails."""
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise Exit(code=code)
