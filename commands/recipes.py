"""The command that lists the recipes."""

from __future__ import annotations

from invoke import Context, Exit, task

from commands.common import FORMAT, data, known_format, problems_in_plain_words, say
from commands.parsing import SeveralTask


@task(
    klass=SeveralTask,
    auto_shortflags=False,
    positional=["name"],
    help={
        "name": "recipes to show in detail: what they set, where that is stated, how to run them",
        "search": "words that name, description, model or features have, each of them",
        "platform": "only those for it: a2, a3, …",
        "release": "only those that are stated for it: v0.13.0, …",
        "format": FORMAT,
    },
)
def recipes(
    c: Context,
    name: list[str],
    search: str = "",
    platform: str = "",
    release: str = "",
    format: str = "text",
) -> None:
    """List the recipes, or show some in detail: invoke recipes --search "deepseek mtp"

    What each needs: nodes and NPUs of one instance, GiB on each NPU (an estimate: weights and the
    KV cache of one request), the longest request, roles, and the releases it is stated for.
    """
    from entrypoints import library
    from entrypoints.problems import Refused

    with problems_in_plain_words():
        known_format(format)
        try:
            found = library.find(name, search, platform, release)
        except Refused as refused:
            lines = "\n".join(f"error: {problem.line()}" for problem in refused.problems)
            raise Exit(lines, code=refused.exit_code) from None
        if not found:
            say("no recipe is all of that: leave a word, the platform or the release out")
        text = library.details if name else library.table
        data(format, library.as_data(found), lambda: text(found).rstrip("\n"))
