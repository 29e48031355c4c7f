"""Commands about what a node runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from invoke import Exit

from commands import options
from commands.command import argument, choice, command, option, output, say
from commands.options import FORMAT, PLATFORM, RELEASE


def _settings() -> Iterable[str]:
    from entrypoints.inputs.roles import ROLES

    yield from (f"ROLE={name}" for name in ROLES)
    yield from (f"RECIPE={name}" for name in options.recipes())


@command
def plan(
    set: list[str] = option("NAME=VALUE, a variable of the container; repeatable", _settings),
    arguments: str = option("flags after the image, in one text"),
    format: str = choice("text", "json", "env"),
) -> None:
    """Show what a node would run; start nothing

    The same as `docker run -e … IMAGE plan`.

        invoke plan --set ROLE=single --set RECIPE=qwen3-32b-w8a8/throughput
    """
    from common.errors import user_error
    from entrypoints.__main__ import main

    environ = dict(one.partition("=")[::2] for one in set)
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise user_error("--arguments", str(error), "quote it as for a shell") from None
    if code := main(["plan", "--format", format, "--", *words], environ):
        raise Exit(code=code)


@command(help={"platform": "a2 or a3: what the host is to serve with (default: what it has)"})
def doctor(platform: str = PLATFORM, release: str = RELEASE, format: str = FORMAT) -> None:
    """Check this host's NPUs, driver and network, outside any container

    Prints the --device and -v options of docker run that exist here. Exits with 78 when something
    has to be repaired first.
    """
    from entrypoints.findings import MACHINE
    from entrypoints.preflight import doctor as doctors

    report = doctors.run(platform or None, release or None)
    output(format, report.as_data(), report.text)
    if report.failed:
        raise Exit(code=MACHINE)


@command(
    help={
        "platform": "only recipes for this platform: a2, a3, …",
        "release": "only recipes stated for this release: v0.13.0, …",
    }
)
def recipes(
    name: list[str] = argument(
        "recipes to show in detail: what they set, its source, how to run them",
        options.recipes,
        required=False,
    ),
    search: str = option("words to find in name, description, model or features; all must match"),
    platform: str = PLATFORM,
    release: str = RELEASE,
    format: str = FORMAT,
) -> None:
    """List the recipes, or show some in detail

    What each needs: nodes and NPUs of one instance, GiB on each NPU (an estimate: weights and the
    KV cache of one request), the longest request, roles, and the releases it is stated for.

        invoke recipes --search "deepseek mtp"
    """
    from entrypoints import library

    found = library.find(name, search, platform, release)
    if not found:
        say("no recipe matches all of that: leave out a word, the platform or the release")
    text = library.details if name else library.table
    output(format, library.as_data(found), lambda: text(found).rstrip("\n"))
