"""The command that renders the documentation's reference from the data."""

from __future__ import annotations

from invoke import Context, task

from commands.common import FORMAT, data, known_format, problems_in_plain_words


@task(
    auto_shortflags=False,
    help={
        "check": "write nothing; name every page that has drifted from the data, and exit with 65",
        "format": FORMAT,
    },
)
def docs(c: Context, check: bool = False, format: str = "text") -> None:
    """Render docs/reference from the data: invoke docs

    Compatibility, roles, checks, recipes and what each release changes. The same data give the same
    bytes; these pages are never edited by hand.
    """
    with problems_in_plain_words():
        from common.paths import ROOT
        from docs.render import pages
        from images.matrix import load

        known_format(format)
        made = pages.pages(load())
        if check:
            pages.check(made)
        found = pages.states(made) if check else pages.write(made)
        rows = [
            {"page": str(path.relative_to(ROOT)), "was": state} for path, state in found.items()
        ]
        data(format, rows, lambda: "\n".join(f"{row['was']:8} {row['page']}" for row in rows))
