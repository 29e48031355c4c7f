"""What publish, promote and prune print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.text import megabytes, table
from images.publish.promote import Promoted
from images.publish.prune import Temporary
from images.publish.publish import Published, Step


def plan_data(steps: Iterable[Step]) -> list[dict[str, Any]]:
    return [
        {
            "tag": step.image.tag,
            "action": step.action,
            "why": step.why,
            "arches": list(step.image.arches),
            "inputs": step.image.inputs.digest,
            "in_registry": sorted(step.parts),
            "built": sorted(step.local),
        }
        for step in steps
    ]


def plan_text(steps: Iterable[Step]) -> str:
    rows = [(step.action, step.image.tag, ", ".join(step.image.arches), step.why) for step in steps]
    return table([("", "tag", "architectures", "why"), *rows])


def published_data(published: Iterable[Published]) -> list[dict[str, Any]]:
    return [{**vars(one), "arches": list(one.arches)} for one in published]


def published_text(published: Iterable[Published]) -> str:
    rows = [(one.action, one.tag, one.immutable_tag, one.digest) for one in published]
    return table([("", "tag", "never moved", "digest"), *rows])


def promoted_text(one: Promoted) -> str:
    return "\n".join(
        [
            f"{one.target}  {one.digest}",
            f"  from       {one.source}",
            f"  manifests  {one.manifests}, {one.referrers} of them referrers",
            f"  copied     {megabytes(one.bytes)}",
            f"  tag        {'moved' if one.moved else 'was there'}",
        ]
    )


def temporary_data(temporary: Iterable[Temporary]) -> list[dict[str, Any]]:
    return [{**vars(one), "delete": bool(one.why)} for one in temporary]


def temporary_text(temporary: Iterable[Temporary], verb: str) -> str:
    rows = [(verb if one.why else "keep", one.tag, one.why) for one in temporary]
    return table(rows) if rows else "no temporary tags"
