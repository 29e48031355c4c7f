"""What a translation changes, grouped so that the report needs few lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator

# Kinds of changes, in the order of the report.
REPLACED, LOWERED, SET, LEFT_OUT = "replaced", "lowered", "set", "left out"
_ORDER = (REPLACED, LOWERED, SET, LEFT_OUT)


class ChangeLog:
    """Collects changes; those of one kind and reason become one line."""

    def __init__(self, instances: Collection[str]) -> None:
        """`instances`: a change of all of them is reported without names."""
        self._instances = frozenset(instances)
        self._changes: dict[tuple[str, str], dict[str, list[str]]] = {}

    def add(self, kind: str, what: str, reason: str, instance: str) -> None:
        """Record a change of an instance or the proxy; `kind` is one of the constants above."""
        names = self._changes.setdefault((kind, reason), {}).setdefault(what, [])
        if instance not in names:
            names.append(instance)

    def lines(self) -> Iterator[str]:
        for (kind, reason), changes in sorted(
            self._changes.items(), key=lambda item: _ORDER.index(item[0][0])
        ):
            text = ", ".join(self._text(what, names) for what, names in changes.items())
            yield f"{kind}: {text} ({reason})"

    def _text(self, what: str, names: list[str]) -> str:
        if len(self._instances) < 2 or set(names) >= self._instances:
            return what
        return f"{what} of {' and '.join(names)}"
