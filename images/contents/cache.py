"""What was read of layers, by digest: packages, roles and recipes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common.files import write_atomically
from common.paths import WORK
from images.contents import packages, project_files
from images.contents.layers import Blobs, File, Layer, Memory, layer, layers
from images.registry.oci import Descriptor

CACHE = WORK / "inspect"
FORMAT = 4  # of a kept file; one of another form is read again


def cached_layers(descriptors: Sequence[Descriptor]) -> list[Layer | None]:
    """Each layer if it was read before, else None."""
    return [_load(one) for one in descriptors]


def read(
    blobs: Blobs, descriptors: Sequence[Descriptor], tell: Callable[[int, float], None]
) -> list[Layer]:
    """Read every layer that is not in the cache; `tell` gets their number and size in MB.

    Raises UserError (65, 69).
    """
    before = {one.digest: found for one in descriptors if (found := _load(one))}
    new = [one for one in dict.fromkeys(descriptors) if one.digest not in before]
    if new:
        tell(len(new), sum(one.size for one in new) / 1e6)
    memory = Memory()
    return layers(descriptors, lambda one: before.get(one.digest) or _read(blobs, one, memory))


def _wanted(path: str) -> bool:
    return project_files.wanted(path) or (packages.wanted(path) and not path.endswith("/RECORD"))


def _read(blobs: Blobs, descriptor: Descriptor, memory: Memory) -> Layer:
    whole = layer(blobs, descriptor, keep=_wanted, memory=memory)
    found = replace(
        whole,
        files={path: file for path, file in whole.files.items() if path in whole.kept},
        kept={path: _head(path, text) for path, text in whole.kept.items()},
    )
    _store(found)
    return found


def _head(path: str, content: bytes) -> bytes:
    """The fields of METADATA without the description, which is most of it."""
    return content.partition(b"\n\n")[0] if path.endswith("/METADATA") else content


def _path(digest: str) -> Path:
    return CACHE / f"{digest.rpartition(':')[2]}.json"


def _store(found: Layer) -> None:
    document = {
        "form": FORMAT,
        "diff_id": found.diff_id,
        "unpacked": found.unpacked,
        "files": [asdict(file) for file in found.files.values()],
        "kept": {name: base64.b64encode(text).decode() for name, text in found.kept.items()},
        "removed": sorted(found.removed),
        "emptied": sorted(found.emptied),
    }
    write_atomically(_path(found.digest), json.dumps(document), parents=True)


def _load(descriptor: Descriptor) -> Layer | None:
    try:
        raw: dict[str, Any] = json.loads(_path(descriptor.digest).read_text())
        return Layer(
            digest=descriptor.digest,
            diff_id=raw["diff_id"],
            size=descriptor.size,
            unpacked=raw["unpacked"],
            files={one["path"]: File(**one) for one in raw["files"]},
            kept={name: base64.b64decode(text) for name, text in raw["kept"].items()},
            removed=frozenset(raw["removed"]),
            emptied=frozenset(raw["emptied"]),
        ) if raw["form"] == FORMAT else None  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
