"""Keys of --additional-config that the release does not read."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.launch.facts import Facts
from entrypoints.messages import finding


def unread(facts: Facts) -> Iterator[Finding]:
    config = facts.json("--additional-config")
    if not config:
        return
    from entrypoints.inputs import keys  # reads the catalogue

    for one in keys.unread(config, facts.release):
        fix, source, others = keys.advice(one.key, facts.release)
        also = f"; known to {', '.join(others)}" if others else ""
        named = {"key": one.key, "release": facts.release.name, "also": also, "advice": fix}
        code = "config-key-refused" if one.refused else "config-key-unread"
        yield finding(code, source=source, **named)


RULES = (unread,)
