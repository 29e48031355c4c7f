"""The docker command line client. (The SDK, for remote engines, is used only in clusters/live.)"""

from __future__ import annotations

import re
import subprocess

from common.errors import EX_UNAVAILABLE, UserError, user_error

NO_ENGINE = re.compile(
    r"connect to the docker (daemon|API)|is the docker daemon running|no builder .* found",
    re.IGNORECASE,
)


def run(*arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a docker command, and return its exit code and output.

    Raises UserError (69) when docker is not installed or no engine answers.
    """
    command = ["docker", *arguments]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout
        )
    except FileNotFoundError:
        raise not_installed() from None
    if answer.returncode and NO_ENGINE.search(answer.stderr):
        raise no_engine(answer.stderr)
    return answer


def output(*arguments: str, timeout: float | None = None) -> str | None:
    """What a docker command prints; None when it fails for any reason."""
    try:
        answer = run(*arguments, timeout=timeout)
    except (UserError, OSError, subprocess.TimeoutExpired):
        return None
    return None if answer.returncode else answer.stdout.strip()


def image_id(reference: str) -> str:
    """The digest of an image in the engine; empty when the engine does not have it.

    Raises UserError (69) when docker is not installed or no engine answers.
    """
    answer = run("image", "inspect", "--format", "{{.Id}}", reference)
    return "" if answer.returncode else answer.stdout.strip()


def not_installed() -> UserError:
    return user_error("docker", "is not installed", "./setup.sh installs it", EX_UNAVAILABLE)


def no_engine(words: str) -> UserError:
    """`words`: docker's own."""
    return user_error(
        "docker",
        f"no engine answers: {' '.join(words.split())}",
        "./setup.sh installs and starts one; --builder NAME uses another",
        EX_UNAVAILABLE,
    )
