"""Order the names of releases, and find the release whose facts hold for another one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

_STAGES = ("dev", "rc", "", "post")


def sort(releases: Iterable[str]) -> list[str]:
    """Sort releases from the oldest to the newest; other names come last."""
    return sorted(releases, key=_order)


def facts_of(name: str, known: Iterable[str]) -> str:
    """The known release whose facts hold for a release; empty if there is none.

    A known release has its own facts, and v0.23.0 those of its known post-release. A candidate, a
    post-release or a development build has those of the nearest earlier release, a nightly build
    those of the newest.
    """
    if name in (known := list(known)):
        return name
    names = [one for one in sort(known) if len(_order(one)) > 1]
    if re.match(r"(nightly|main)\b", name):
        return names[-1] if names else ""
    order = _order(name)
    if len(order) == 1:
        return ""
    if order[3] == _STAGES.index(""):
        found = [one for one in names if is_own(name, one)]
    else:
        found = [one for one in names if _order(one) <= order]
    return found[-1] if found else ""


def is_own(name: str, facts: str) -> bool:
    """Whether `facts` is a post-release of `name`, as v0.23.0.post1 is of v0.23.0."""
    return re.fullmatch(rf"{re.escape(name)}\.post\d+", facts) is not None


def meant(name: str, known: Iterable[str]) -> str:
    """The fix for an unknown release: the nearest one by version or by name, and all."""
    from entrypoints.findings import did_you_mean

    names = sort(known)
    near = facts_of(f"{name}.post0", names) if len(_order(name)) > 1 else ""
    return f"did you mean {near}? known: {', '.join(names)}" if near else did_you_mean(name, names)


def _order(name: str) -> tuple[int, ...]:
    """Version, stage and number: v0.18.0rc1 < v0.18.0 < v0.18.0.post1; other names have none."""
    match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)(?:\.?(rc|post|dev)(\d+)(?:[.+-]?\w+)*)?", name)
    if not match:
        return (sys.maxsize,)
    major, minor, patch, stage, number = match.groups()
    return int(major), int(minor), int(patch), _STAGES.index(stage or ""), int(number or 0)
