"""What an image is made from: one digest over all of it, and which stages changed.

Matrix pins, locks, templates, entrypoint, env and the base's digest all reach the rendered
Dockerfile or a file it takes; the fingerprint of its last stage covers all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from images.labels import INPUTS
from images.registry import documents

LABEL = INPUTS  # of the image; the same name as an annotation
STAGES = "ascend.inputs.stages"


@dataclass(frozen=True)
class Inputs:
    """The digest, and a short fingerprint of each stage with the stages that it takes from."""

    digest: str
    stages: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def annotations(self) -> dict[str, str]:
        return {LABEL: self.digest, STAGES: json.dumps(self.stages, sort_keys=True)}

    def changed(self, published: Mapping[str, str]) -> list[str]:
        """The stages that changed by themselves since an image with these annotations."""
        try:
            before = dict(documents.load(published.get(STAGES, "{}")))
        except (ValueError, TypeError):
            return []
        differ = {name for name, value in self.stages.items() if before.get(name) != value}
        if not before:
            return []
        return [
            name
            for name in self.stages
            if name in differ and not differ.intersection(self.parents.get(name, ()))
        ]
