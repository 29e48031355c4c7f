"""What `invoke cluster.upgrade` prints: each change with its reason and source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clusters.file.document import dotted
from clusters.upgrade.upgrade import ISSUE, Upgraded

# Kind of a change -> its heading.
_KINDS = {
    "removed": "removed",
    "moved": "moved",
    "lost": "left out",
    "form": "same feature",
    "default": "new in the release",
}


def lines(made: Upgraded) -> Iterator[str]:
    """A line for each change, and one for each warning of cluster.check."""
    for file, one in made.changes:
        where = dotted(one.path) if one.path else one.name
        source = f" [{one.source}]" if one.source else ""
        yield f"{file}: {where}: {_KINDS[one.kind]}: {one.what}{source}"
    yield from (str(one) for one in made.findings if one.code != ISSUE)


def data(made: Upgraded) -> dict[str, Any]:
    """The same as JSON data, with the new texts."""
    return {
        "changes": [
            {
                "file": file,
                "kind": one.kind,
                "name": one.name,
                "path": list(one.path),
                "what": one.what,
                "source": one.source,
            }
            for file, one in made.changes
        ],
        "files": dict(made.files),
        "findings": [str(one) for one in made.findings],
    }
