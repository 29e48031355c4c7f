"""What the package index says of a release: its day, and the pins that came later or never."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.errors import UserError
from upstream.bump.claims import Findings
from upstream.index import File, day_after, files
from upstream.model import Derived, Fact


@dataclass(frozen=True)
class Uploads:
    """`absent`: package → version that the index does not have."""

    derived: Derived
    absent: Mapping[str, str]


def derive(vllm_ascend: str, pins: Mapping[str, str]) -> Uploads:
    """`published` and `later` of a release; `pins`: package → the version it is pinned to.

    Packages are resolved as of the day after the release's upload: that day is over everywhere
    when images are built from it.
    """
    found = Findings()
    absent: dict[str, str] = {}
    own = files("vllm-ascend", vllm_ascend)
    published = day_after(own)
    if published is None:
        found.ask("published", "the index does not say when it was uploaded: which day?")
        return Uploads(found.derived(), absent)
    note = "the day after its upload, as of which packages are resolved"
    found.facts.append(Fact("published", published, note))
    later: dict[str, datetime.date] = {}
    for package, version in pins.items():
        there = _files(package, version)
        if not there:
            absent[package] = version
            continue
        first = day_after(there)
        if first and first > published:
            later[package] = first
    if later:
        note = "the day after an upload that came after the release"
        found.facts.append(Fact("later", later, note))
    return Uploads(found.derived(), absent)


def _files(package: str, version: str) -> Iterable[File]:
    try:
        return files(package, version)
    except UserError:
        return ()
