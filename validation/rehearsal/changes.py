"""What a rehearsal has otherwise than the file, gathered so that it can be said in a few lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator

# What was done, in the order in which it is said.
REPLACED, LOWERED, SET, LEFT_OUT = "replaced", "lowered", "set", "left out"
_ORDER = (REPLACED, LOWERED, SET, LEFT_OUT)


class Changes:
    """Notes of which those of one kind and reason become one line."""

    def __init__(self, everyone: Collection[str]) -> None:
        """`everyone`: the instances, which need not be named where a note is about all of them."""
        self._everyone = frozenset(everyone)
        self._notes: dict[tuple[str, str], dict[str, list[str]]] = {}

    def note(self, did: str, what: str, why: str, who: str) -> None:
        """`did`: one of the above. `who`: the instance, or the proxy."""
        those = self._notes.setdefault((did, why), {}).setdefault(what, [])
        if who not in those:
            those.append(who)

    def lines(self) -> Iterator[str]:
        for (did, why), notes in sorted(
            self._notes.items(), key=lambda one: _ORDER.index(one[0][0])
        ):
            said = ", ".join(self._said(what, who) for what, who in notes.items())
            yield f"{did}: {said} ({why})"

    def _said(self, what: str, who: list[str]) -> str:
        if len(self._everyone) < 2 or set(who) >= self._everyone:
            return what
        return f"{what} of {' and '.join(who)}"
