"""`$NAME` and `${NAME}` in a recipe.

The node's own values are filled in when the plan is made. Any other name in `env:` is expanded at
the start, from the container's environment, as in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)


def names(text: str) -> set[str]:
    """The names that a text refers to."""
    return {m[1] or m[2] for m in REFERENCE.finditer(text)} if "$" in text else set()


def expand(text: str, environ: Mapping[str, str]) -> str:
    """The text with every reference replaced; a name that is not set becomes empty."""
    return REFERENCE.sub(lambda m: environ.get(m[1] or m[2], ""), text)


def fill(value: Any, facts: Mapping[str, str | None], where: str, findings: list[Finding]) -> Any:
    """A text, list or mapping with the node's values filled in; other names stay.

    A value that is not known on this node (None) is an error.
    """
    if isinstance(value, str):
        return _fill(value, facts, where, findings) if "$" in value else value
    if isinstance(value, Mapping):
        return {key: fill(item, facts, where, findings) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(fill(item, facts, where, findings) for item in value)
    return value


def _fill(text: str, facts: Mapping[str, str | None], where: str, findings: list[Finding]) -> str:
    def one(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in facts:
            return match[0]
        fact = facts[name]
        if fact is None:
            findings.append(finding("unknown-reference", where, name=name))
            return ""
        return fact

    return REFERENCE.sub(one, text)
