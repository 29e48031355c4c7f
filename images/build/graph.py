"""The stages of a rendered Dockerfile, and a fingerprint of what each is made from.

A fingerprint covers the text of the stage, the files that it mounts or adds, its parent stages and
the base. It shows whether an environment must be captured again, whether an image is up to date,
and what a dry run would find built.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LEFT_OUT = {"__pycache__", ".dockerignore"}  # the .dockerignore of a context leaves out both
Context = Path | str  # a directory, or an address that stands for its content


@dataclass(frozen=True)
class Stage:
    """One FROM with what follows: `text` without comments, its `parents`, and its `files`."""

    name: str
    image: str
    text: str
    parents: tuple[str, ...]
    files: tuple[tuple[str, str], ...]  # (context, path in it)


def parse(dockerfile: str) -> dict[str, Stage]:
    """The stages by name, in order. Every stage of our Dockerfiles has a name."""
    stages: dict[str, Stage] = {}
    text = "\n".join(line for line in dockerfile.splitlines() if not line.startswith("#"))
    for part in re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]:
        image, name = re.match(r"FROM (?:--platform=\S+ )?(\S+) AS (\S+)", part).groups()  # type: ignore[union-attr]
        taken = [
            (source, path or "")
            for source, path in re.findall(r"from=([\w.-]+)(?:,source=([^,\s]+))?", part)
        ]
        added = [("", path) for path in re.findall(r"^ADD (?:--link )?(\S+) ", part, re.MULTILINE)]
        parents = [source for source, _ in taken if source in stages]
        if image in stages:
            parents.append(image)
        files = [(source, path) for source, path in taken if source not in stages]
        stages[name] = Stage(
            name,
            "" if image in stages or image == "scratch" else image,
            part.strip(),
            tuple(dict.fromkeys(parents)),
            tuple(dict.fromkeys((*files, *added))),
        )
    return stages


def fingerprints(
    stages: Mapping[str, Stage],
    contexts: Mapping[str, Context],
    images: Mapping[str, str],
    arch: str,
    build_arch: str,
) -> dict[str, str]:
    """Stage → fingerprint for one target architecture.

    A stage on the builder's architecture that never names the target's makes the same files for
    every target and on every builder. `contexts` maps the name of a context ("" is the main one) to
    its content, `images` an image that a stage starts from to its identity.
    """
    result: dict[str, str] = {}
    for stage in stages.values():
        words = [
            stage.text,
            images.get(stage.image, stage.image),
            *(result[parent] for parent in stage.parents),
        ]
        for context, path in stage.files:
            path = path.replace("${TARGETARCH}", arch).replace("${BUILDARCH}", build_arch)
            words.append(_content(contexts[context], path))
        if "TARGETARCH" in stage.text or "BUILDPLATFORM" not in stage.text:
            words.append(arch)
        result[stage.name] = hashlib.sha256("\0".join(words).encode()).hexdigest()
    return result


def used_by(stages: Mapping[str, Stage], name: str) -> list[str]:
    """The stages that `name` is made from, including itself, in the order of the Dockerfile."""
    wanted, waiting = set(), [name]
    while waiting:
        stage = waiting.pop()
        if stage not in wanted:
            wanted.add(stage)
            waiting += stages[stage].parents
    return [stage for stage in stages if stage in wanted]


def _content(context: Context, path: str) -> str:
    if isinstance(context, str):
        return context
    return _tree_digest(context / path)


@cache
def _tree_digest(root: Path) -> str:
    """A digest of a file or directory; for a root file system, the stamp beside it."""
    stamp = root.with_suffix(".sha256")
    if root.suffix == ".tar" and stamp.is_file():
        return stamp.read_text()
    digest = hashlib.sha256()
    for file in [root] if root.is_file() else sorted(root.rglob("*")):
        if file.is_file() and not LEFT_OUT & {*file.parts}:
            digest.update(f"{file.relative_to(root)}\0{file.stat().st_mode & 0o111}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
