"""When the package index got a release and its pins, and which pins it lacks."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.errors import UserError
from upstream.bump.fact_collector import FactCollector
from upstream.facts import Derived, Fact
from upstream.package_index import File, day_after, files


@dataclass(frozen=True)
class UploadDates:
    """`absent`: package → version that the index lacks."""

    derived: Derived
    absent: Mapping[str, str]


def derive(vllm_ascend: str, pins: Mapping[str, str]) -> UploadDates:
    """Derive `published` and `later` of a release. `pins`: package → pinned version.

    Packages are resolved as of the day after the upload, when the day of the upload is over in
    every time zone.
    """
    found = FactCollector()
    absent: dict[str, str] = {}
    own = files("vllm-ascend", vllm_ascend)
    published = day_after(own)
    if published is None:
        found.ask("published", "the index states no upload date: which day was it?")
        return UploadDates(found.derived(), absent)
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
    return UploadDates(found.derived(), absent)


def _files(package: str, version: str) -> Iterable[File]:
    try:
        return files(package, version)
    except UserError:
        return ()
