"""The console script `ascend-images`: the project of the current directory, else the installed one.

Installed as `ascend_images.commands.entry`; the project's packages are beside `commands`, and are
imported by the same names as in a checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path


def project(here: Path) -> Path:
    """The checkout that a directory is in, or where this project is installed."""
    for directory in (here, *here.parents):
        if (directory / "commands/entry.py").is_file() and (directory / "pyproject.toml").is_file():
            return directory
    return Path(__file__).parents[1]


def main() -> None:
    """Run one command line."""
    sys.path.insert(0, str(project(Path.cwd())))

    from commands.program import program

    program.run()
