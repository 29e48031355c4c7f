"""What upstream's exceptions and log lines say, and where in upstream."""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterator
from typing import Any

# Raised because a stand-in lacks something, not because upstream refuses.
_OF_STAND_INS = (AttributeError, TypeError, ImportError, NotImplementedError)
_PACKAGES = ("vllm", "vllm_ascend")
_STAND_IN = bool(os.environ.get("CANN_STANDIN"))  # it has no compiled operators, as it says itself
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BORDER = re.compile(r"[*\s]*")


def of(error: BaseException, stage: str) -> dict[str, Any]:
    """The finding for an exception of a stage.

    `judged` is false when the exception comes from what replaces the devices, so that it does not
    show what upstream decides.
    """
    message, cause = _message(error)
    frames = traceback.extract_tb(cause.__traceback__)
    places = [place for frame in frames if (place := _place(frame.filename, frame.lineno))]
    last = frames[-1].filename if frames else ""
    raised = bool(places) and _place(last, 0) != "" and not isinstance(cause, _OF_STAND_INS)
    judged = raised or isinstance(cause, Refusal)
    return finding(stage, "error", message, places[-1] if places else "", judged)


def finding(
    stage: str, severity: str, message: str, at: str = "", judged: bool = True
) -> dict[str, Any]:
    """One finding of a stage. `at`: file and line of upstream."""
    return {
        "stage": stage,
        "severity": severity,
        "message": message,
        "at": at,
        "judged": judged,
    }


class Refusal(Exception):
    """A refusal that upstream reports without an exception of its own."""


def _message(error: BaseException) -> tuple[str, BaseException]:
    """What the error says, and the exception behind it: pydantic wraps upstream's own."""
    details = getattr(error, "errors", None)
    if callable(details):
        found = details()
        causes = [one.get("ctx", {}).get("error") for one in found]
        text = "; ".join(_detail(one) for one in found)
        return text, next((one for one in causes if isinstance(one, BaseException)), error)
    if isinstance(error, KeyError):
        return f"KeyError: {error}", error
    return plain(str(error)) or type(error).__name__, error


def _detail(one: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in one.get("loc", ()))
    return f"{where}: {one['msg']}" if where else str(one["msg"])


def _place(filename: str, line: int | None) -> str:
    """`vllm_ascend/platform.py:269`; empty for a file of another package."""
    _, installed, inside = filename.partition("/site-packages/")
    return f"{inside}:{line}" if installed and inside.split("/")[0] in _PACKAGES else ""


def plain(text: str) -> str:
    """A message on one line, without colours and frames of asterisks."""
    lines = _COLOUR.sub("", text).splitlines()
    return " ".join(line.strip(" *") for line in lines if not _BORDER.fullmatch(line))


class Log(logging.Handler):
    """Collects what upstream's loggers say at WARNING and above, and what its platform decides.

    A platform announces with INFO what it changes in the configuration.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: dict[tuple[str, str], str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        at = _place(record.pathname, record.lineno)
        if record.levelno < logging.WARNING and "vllm_ascend/platform.py" not in at:
            return
        text = plain(record.getMessage())
        if text and not (_STAND_IN and "vllm_ascend_C" in text):
            self.lines[at, text] = "warning" if record.levelno >= logging.WARNING else "note"

    def findings(self, stage: str) -> Iterator[dict[str, Any]]:
        """The lines so far, each once. Clears the log."""
        for (at, text), severity in self.lines.items():
            yield finding(stage, severity, text, at)
        self.lines.clear()
