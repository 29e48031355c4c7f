"""Publish the small images of a directory, in a process of its own that a test can kill.

python -m tests.e2e.publish_small REPOSITORY DIRECTORY [oci|docker]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from common.errors import UserError
from images.build.inputs import Inputs
from images.publish import publish
from images.publish.publish import Image, Part
from images.registry.client import HttpRepository
from images.registry.oci import MEDIA_TYPES, Layout


def main(name: str, directory: str, types: str = "oci") -> int:
    what = json.loads((Path(directory) / "what.json").read_text())
    images = [Image(one["tag"], Inputs(**one["inputs"]), tuple(one["arches"]))
              for one in what["images"]]  # fmt: skip
    parts = [Part(**one) for one in what["parts"]]
    print("ready", flush=True)
    repository = HttpRepository(name, pauses=(0.1, 0.2, 0.4))
    layout, media_types = Layout(Path(directory)), MEDIA_TYPES[types]
    try:
        steps = publish.plan(repository, images, parts, media_types)
        done = publish.publish(
            repository, steps, layout, media_types, lambda line: print(line, file=sys.stderr)
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps([{"tag": one.tag, "immutable": one.immutable_tag, "digest": one.digest,
                       "action": one.action} for one in done]))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
