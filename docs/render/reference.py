"""The reference (docs/reference): render all pages, write them, or compare them with the files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from common.errors import EX_DATAERR, Finding, UserError
from common.files import write_output
from common.paths import ROOT
from docs.render import checks, compatibility, readme, recipes, releases, roles
from docs.render.markdown import MARK, Page
from entrypoints.inputs.data import CachedReads
from images.matrix import Matrix

OUT = ROOT / "docs" / "reference"
REMEDY = "run invoke docs and commit the result"


def pages(matrix: Matrix) -> list[Page]:
    """Render every page. Equal data give equal bytes."""
    with CachedReads():
        return [
            compatibility.render(matrix),
            roles.render(),
            checks.render(),
            *recipes.render(matrix),
            *releases.render(matrix),
            *readme.render(matrix),
        ]


def states(rendered: Iterable[Page], out: Path = OUT) -> dict[Path, str]:
    """Path → same, missing, outdated, or stale (a generated page that no longer exists)."""
    found = {}
    for one in rendered:
        path = (out / one.path).resolve()
        there = path.read_text(encoding="utf-8") if path.is_file() else None
        found[path] = "missing" if there is None else "same" if there == one.text else "outdated"
    for path in sorted(out.rglob("*.md")):
        if path not in found and path.read_text(encoding="utf-8").startswith(MARK):
            found[path] = "stale"
    return found


def write(rendered: list[Page], out: Path = OUT) -> dict[Path, str]:
    """Write changed pages and delete stale ones; returns their previous states."""
    found = states(rendered, out)
    for one in rendered:
        if found[(out / one.path).resolve()] != "same":
            write_output(out / one.path, one.text, parents=True)
    for path, state in found.items():
        if state == "stale":
            path.unlink()
    return found


def check(rendered: list[Page], out: Path = OUT, root: Path = ROOT) -> None:
    """Raise UserError (65) with every page that differs from the data."""
    messages = {
        "missing": "is missing",
        "outdated": "differs from the data",
        "stale": "is no longer generated",
    }
    problems = [
        Finding(str(path.relative_to(root)), messages[state], REMEDY)
        for path, state in states(rendered, out).items()
        if state != "same"
    ]
    if problems:
        raise UserError(problems, EX_DATAERR)
