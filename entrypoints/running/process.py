"""Executing another program in place of this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from entrypoints.findings import Refused, did_you_mean
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def execute(
    argv: Sequence[str], environ: Mapping[str, str], known: Iterable[str] | None = None
) -> NoReturn:
    """Replace this process. `known`: the commands to suggest in place of one that a user gave.

    Raises Refused: for a user's command with 127 when it is not found and 126 when it cannot be
    run, as in a shell; for a command of the image's own with 78.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reason = ""
    try:
        os.execvpe(argv[0], list(argv), dict(environ))
    except (FileNotFoundError, NotADirectoryError):
        message = "cannot-run.not-in-image" if known is None else "cannot-run.not-found"
    except (OSError, ValueError) as error:
        message = "cannot-run.broken-in-image" if known is None else "cannot-run.not-run"
        reason = getattr(error, "strerror", None) or str(error)
    suggestion = did_you_mean(argv[0], known or ())
    raise Refused([finding(message, command=argv[0], reason=reason, known=suggestion)])
