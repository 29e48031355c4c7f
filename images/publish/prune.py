"""Delete temporary tags of publishing: old ones, and those whose image is published."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from common.errors import EX_SOFTWARE, user_error
from common.terminal import Say
from images.publish.publish import TEMPORARY, TIME
from images.registry.client import Repository, bytes_source
from images.registry.oci import MEDIA_TYPES, Manifest
from images.registry.transfer import run_all

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Temporary:
    """A temporary tag; `why` it is deleted, empty if it stays."""

    tag: str
    digest: str
    why: str


def age(text: str) -> timedelta:
    """`24h` as a time span. Raises UserError."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not match:
        raise user_error("--older", f"'{text}' is not a time span", "30m, 24h or 7d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def plan(repository: Repository, older: timedelta, now: datetime | None = None) -> list[Temporary]:
    """Every temporary tag, and whether to delete it."""
    tags = repository.tags()
    temporary = [found for tag in tags if (found := TEMPORARY.fullmatch(tag))]
    if not temporary:
        return []
    reachable = _reachable(repository, [tag for tag in tags if not TEMPORARY.fullmatch(tag)])
    digests = run_all([tag.string for tag in temporary], repository.digest, repository.stop)
    now = now or datetime.now(timezone.utc)
    result = []
    for tag, digest in zip(temporary, digests, strict=True):
        made = datetime.strptime(tag["time"], TIME).replace(tzinfo=timezone.utc)
        hours = (now - made) // timedelta(hours=1)
        why = f"pushed {hours} h ago" if now - made > older else ""
        if digest in reachable:
            why = f"{reachable[digest]} has it"
        if digest:
            result.append(Temporary(tag.string, digest, why))
    return result


def _reachable(repository: Repository, tags: Iterable[str]) -> dict[str, str]:
    """Digest → a tag that leads to it."""
    tags, result = list(tags), {}
    for tag, found in zip(tags, run_all(tags, repository.manifest, repository.stop), strict=True):
        if found:
            result[found.digest] = tag
            result.update(dict.fromkeys((child.digest for child in found.children), tag))
    return result


def prune(repository: Repository, planned: Iterable[Temporary], say: Say) -> list[Temporary]:
    """Delete tags as planned. The manifests stay: they may be part of an index.

    Raises UserError (70) as soon as the registry deletes more than the tag.
    """
    gone = [one for one in planned if one.why]
    for one in gone:
        if not repository.delete_tag(one.tag):
            _delete_by_stand_in(repository, one.tag)
        if one.why.endswith("has it") and repository.digest(one.digest) is None:
            raise user_error(
                f"{repository.name}:{one.tag}",
                f"the registry deleted {one.digest} with the tag, and {one.why}",
                "publish again to restore it, and do not prune in this registry",
                EX_SOFTWARE,
            )
        say(f"deleted {one.tag} ({one.why})")
    return gone


def _delete_by_stand_in(repository: Repository, tag: str) -> None:
    """For registries that only delete by digest: move the tag to a unique manifest first."""
    types = MEDIA_TYPES["docker"]
    config = f'{{"tag": "{tag}"}}'.encode()
    blob = Manifest(types.config, config).descriptor
    repository.push_blob(blob, bytes_source(config))
    stand_in = Manifest.made(
        {
            "schemaVersion": 2,
            "mediaType": types.manifest,
            "config": blob.raw,
            "layers": [],
        }
    )
    repository.push_manifest(tag, stand_in)
    repository.delete_manifest(stand_in.digest)
