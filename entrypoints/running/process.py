"""Becoming another program."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from entrypoints.problems import MACHINE, Problem, Refused, choose
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def become(
    argv: Sequence[str],
    environ: Mapping[str, str],
    missing: int = MACHINE,
    known: Iterable[str] = (),
) -> NoReturn:
    """Replaces this process.

    Raises Refused: with `missing` when the command is not found, with 126 when it cannot be run
    (as in a shell), or with 78 for a command of the image's own, the default.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(argv[0], list(argv), dict(environ))
    except (FileNotFoundError, NotADirectoryError):
        code, message = missing, "is not found in PATH"
    except (OSError, ValueError) as error:
        code = missing if missing == MACHINE else 126
        message = f"cannot be run: {getattr(error, 'strerror', None) or error}"
    fix = f"use an image that holds {argv[0]}" if missing == MACHINE else choose(argv[0], known)
    raise Refused([Problem("cannot-run", argv[0], message, fix, exit_code=code)])
