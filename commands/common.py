"""What the commands share: how problems are told, how data is printed, what options mean."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from invoke import Exit


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a command started ends as it does on Ctrl-C."""


@contextmanager
def problems_in_plain_words() -> Iterator[None]:
    """Show every problem of a UserError, one a line, and end with its exit code."""
    from common.errors import UserError

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Exit(code=128 + signal.SIGPIPE) from None
    except UserError as error:
        lines = "\n".join(str(one) if one.file else f"error: {one}" for one in error.errors)
        raise Exit(lines, code=error.exit_code) from None
    except Terminated:
        raise Exit("terminated", code=143) from None
    except KeyboardInterrupt:
        raise Exit("interrupted", code=130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(*_: object) -> None:
    raise Terminated


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def words(text: str | None) -> list[str]:
    return [word for word in (text or "").split(",") if word]


def known_format(format: str, known: Sequence[str] = ("text", "json")) -> None:
    """For commands that do something first. Raises UserError (64) for another format."""
    from common.errors import user_error

    if format not in known:
        raise user_error("--format", f"'{format}' is not known", " or ".join(known))


def data(
    format: str, value: Any, text: Callable[[], str], jobs: Callable[[], Any] | None = None
) -> None:
    """Print `value` as JSON or as text; with `jobs` also as the matrix of a GitHub workflow."""
    known_format(format, ("text", "json", "github") if jobs else ("text", "json"))
    if format == "github" and jobs:
        print(json.dumps({"include": jobs()}))
    else:
        print(json.dumps(value, indent=1) if format == "json" else text())


PLATFORM = "platforms of the matrix, separated by commas: a2, a3, …"
RELEASE = "a release of the matrix (default: the reference, v0.13.0rc1)"
OS = "ubuntu22.04 (default) or openeuler24.03; several separated by commas"
BASE = "where CANN comes from: an image, or 'stand-in' (no CANN: imports and plans, serves nothing)"
CERTIFICATES = "CA bundle (default: SSL_CERT_FILE, or the host's)"
FORMAT = "text (default) or json"


def environ() -> dict[str, str]:
    return dict(os.environ)
