"""Records of images built on this machine: by the digest of their inputs, the manifest of each
architecture in the layout and its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import write_atomically
from common.paths import WORK
from images.attestations import provenance
from images.attestations.provenance import Statement
from images.build import push
from images.build.options import Options
from images.inspect.stores import LayoutStore
from images.publish.publish import Image
from images.registry.oci import Layout

RECORDS = WORK / "parts"


@dataclass(frozen=True)
class Built:
    digest: str
    provenance: tuple[Statement, ...] = ()


def read(image: Image, options: Options) -> dict[str, Built]:
    """Architecture → what an earlier run built from the same inputs and is still in the layout."""
    try:
        kept: Mapping[str, Any] = json.loads(_record(image, options).read_text())
        found = {
            arch: Built(
                one["digest"],
                tuple(Statement(kind, (), text) for kind, text in one["provenance"].items()),
            )
            for arch, one in kept.items()
        }
        layout = Layout(push.LAYOUT)
        return {arch: one for arch, one in found.items() if layout.whole(one.digest)}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, UserError):
        return {}


def remember(image: Image, options: Options, digest: str) -> dict[str, Built]:
    """Record an index that a build made; return it with what was recorded before."""
    store = LayoutStore(Layout(push.LAYOUT))
    index = store.layout.manifest(digest)
    statements = provenance.buildkit(store, index)
    made = {arch: Built(one, tuple(statements.get(one, ()))) for arch, one in index.arches.items()}
    known = {**read(image, options), **made}
    document = {
        arch: {
            "digest": one.digest,
            "provenance": {statement.kind: statement.predicate for statement in one.provenance},
        }
        for arch, one in known.items()
    }
    write_atomically(_record(image, options), json.dumps(document), parents=True)
    return known


def _record(image: Image, options: Options) -> Path:
    return RECORDS / f"{image.inputs.digest}.{options.compression}.json"
