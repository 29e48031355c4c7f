"""Executing another program in place of this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from entrypoints.findings import MACHINE, Message, Refused, did_you_mean
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

_NOT_FOUND = Message("is not found in PATH", "{known}", "{command}", "cannot-run", exit_code=127)
_NOT_RUN = Message("cannot be run: {reason}", "{known}", "{command}", "cannot-run", exit_code=126)
_IMAGE = "use an image that contains {command}"
_NOT_IN_IMAGE = _NOT_FOUND._replace(fix=_IMAGE, exit_code=MACHINE)
_BROKEN_IN_IMAGE = _NOT_RUN._replace(fix=_IMAGE, exit_code=MACHINE)


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
        message = _NOT_IN_IMAGE if known is None else _NOT_FOUND
    except (OSError, ValueError) as error:
        message = _BROKEN_IN_IMAGE if known is None else _NOT_RUN
        reason = getattr(error, "strerror", None) or str(error)
    suggestion = did_you_mean(argv[0], known or ())
    raise Refused([message(command=argv[0], reason=reason, known=suggestion)])
