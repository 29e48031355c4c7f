"""Commands for work on this project."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec

from invoke import Context, Exit, task

UNIT = "not e2e and not parser"
OTHERS = "(e2e or parser) and not cpu"
AT_ONCE = ["--numprocesses", "auto", "--dist", "loadfile"]  # the tests of a file share fixtures
NO_TESTS = 5  # pytest's exit code


@task(
    auto_shortflags=False,
    help={
        "unit": "only the tests that need neither an engine nor vLLM",
        "k": "only tests whose name matches",
    },
)
def test(c: Context, unit: bool = False, k: str = "") -> None:
    """Run the tests; those marked e2e need a Docker engine and take minutes.

    The others run first, as many at once as there are processors.
    """
    only = ["-k", k] if k else []
    parts = [[*AT_ONCE, "-m", UNIT, *only]]
    if not unit:
        parts.append(["-m", OTHERS, *only])
    codes = [_python(c, "pytest", *part, warn=True) for part in parts]
    # With -k a part may have no test, but not all of them.
    ran = [code for code in codes if code != NO_TESTS]
    if not ran or any(ran):
        raise Exit(code=max(ran, default=NO_TESTS))


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
