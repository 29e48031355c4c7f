"""One digest for everything that an image is made from, and which part of it changed.

Matrix pins, locks, templates, entrypoint, env and the base's digest all reach the rendered
Dockerfile or a file it takes; the fingerprint of its last stage is over all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from images.build import graph
from images.build.targets import Options, Target, fingerprints, render
from images.labels import INPUTS
from images.matrix import Matrix

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
            before = dict(json.loads(published.get(STAGES, "{}")))
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


def inputs(matrix: Matrix, target: Target, options: Options) -> Inputs:
    """What a target is made from, over its architectures in whatever order they are given.

    The Dockerfile is taken before the base's environment is captured: the environment follows from
    the base, and a machine that never built the image knows the same digest.
    """
    ordered = replace(options, arches=tuple(sorted(options.arches, key=lambda arch: arch.name)))
    text = render(matrix, target, ordered)
    stages = graph.parse(text)
    used = graph.used_by(stages, "image")
    prints = fingerprints(matrix, target, text, ordered)
    names = [arch.name for arch in ordered.arches]
    words = [*names, prints["image"]]
    return Inputs(
        hashlib.sha256("\0".join(words).encode()).hexdigest(),
        {name: hashlib.sha256(prints[name].encode()).hexdigest()[:12] for name in used},
        {name: stages[name].parents for name in used},
    )


def inputs_digest(matrix: Matrix, target: Target, options: Options) -> str:
    """The value of the label `ascend.inputs`."""
    return inputs(matrix, target, options).digest
