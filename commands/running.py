"""Commands about what a node runs."""

from __future__ import annotations

import shlex

from invoke import Context, Exit, task

from commands.common import (
    FORMAT,
    RELEASE,
    data,
    problems_in_plain_words,
)


@task(
    auto_shortflags=False,
    iterable=["set"],
    help={
        "set": "a variable as the container would get it, NAME=VALUE; repeatable",
        "arguments": "flags after the image, in one text",
        "format": "text, json or env",
    },
)
def plan(
    c: Context, set: list[str] | None = None, arguments: str = "", format: str = "text"
) -> None:
    """Show what a node would run, starting nothing: invoke plan --set ROLE=single --set RECIPE=R

    The same as `docker run -e … IMAGE plan`.
    """
    from entrypoints.__main__ import main

    environ = dict(one.partition("=")[::2] for one in set or [])
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise Exit(f"error: --arguments: {error}; quote it as for a shell", code=64) from None
    code = main(["plan", "--format", format, "--", *words], environ)
    if code:
        raise Exit(code=code)


@task(
    auto_shortflags=False,
    help={
        "platform": "a2 or a3: what the host is to serve with (default: what it has)",
        "release": RELEASE,
        "format": FORMAT,
    },
)
def doctor(
    c: Context, platform: str | None = None, release: str | None = None, format: str = "text"
) -> None:
    """Look at this host's NPUs, driver and network, outside any container.

    Prints the --device and -v options of docker run that exist here. Exits with 78 when something
    has to be repaired first.
    """
    from entrypoints.preflight import doctor as doctors
    from entrypoints.problems import MACHINE, Refused

    with problems_in_plain_words():
        try:
            report = doctors.run(platform, release)
        except Refused as refused:
            lines = "\n".join(f"error: {problem.line()}" for problem in refused.problems)
            raise Exit(lines, code=refused.exit_code) from None
        data(format, report.as_data(), report.text)
        if report.failed:
            raise Exit(code=MACHINE)
