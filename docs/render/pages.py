"""All pages, and how they are kept: written, or compared with what is there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from common.errors import EX_DATAERR, Finding, UserError
from common.files import write_output
from common.paths import ROOT
from docs.render import checks, compatibility, readme, recipes, releases, roles
from docs.render.page import MARK, Page
from entrypoints.inputs.data import Keeping
from images.matrix import Matrix

OUT = ROOT / "docs" / "reference"
REMEDY = "run invoke docs and commit what it writes"


def pages(matrix: Matrix) -> list[Page]:
    """Every page, made anew; the same data give the same bytes."""
    with Keeping():
        return [
            compatibility.made(matrix),
            roles.made(),
            checks.made(),
            *recipes.made(matrix),
            *releases.made(matrix),
            *readme.made(matrix),
        ]


def states(made: Iterable[Page], out: Path = OUT) -> dict[Path, str]:
    """Path → same, missing, drifted, or stale: a generated page that nothing makes any more."""
    found = {}
    for one in made:
        path = (out / one.path).resolve()
        there = path.read_text(encoding="utf-8") if path.is_file() else None
        found[path] = "missing" if there is None else "same" if there == one.text else "drifted"
    for path in sorted(out.rglob("*.md")):
        if path not in found and path.read_text(encoding="utf-8").startswith(MARK):
            found[path] = "stale"
    return found


def write(made: list[Page], out: Path = OUT) -> dict[Path, str]:
    """Put every page in place and take stale ones away; returns what they were before."""
    found = states(made, out)
    for one in made:
        if found[(out / one.path).resolve()] != "same":
            write_output(out / one.path, one.text, parents=True)
    for path, state in found.items():
        if state == "stale":
            path.unlink()
    return found


def check(made: list[Page], out: Path = OUT, root: Path = ROOT) -> None:
    """Raises UserError (65) with every page that is not what the data say."""
    words = {
        "missing": "is not there",
        "drifted": "is not what the data say",
        "stale": "is made from nothing any more",
    }
    problems = [
        Finding(str(path.relative_to(root)), words[state], REMEDY)
        for path, state in states(made, out).items()
        if state != "same"
    ]
    if problems:
        raise UserError(problems, EX_DATAERR)
