"""How a release fits what releases share: platforms, pairs, and what every image has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.matrix import Matrix
from upstream.bump.entry import Entry, Line
from upstream.bump.pins import cann_tags, soc_versions
from upstream.dockerfile import dockerfiles
from upstream.model import Decision
from upstream.sources import Sources


def known_platforms(matrix: Matrix, line: Line) -> tuple[Line, list[Decision]]:
    """The platforms that the matrix has; each other one is a decision."""
    there = [name for name in line.value if name in matrix.platforms]
    questions = [
        Decision(
            f"platforms.{name}",
            f"{line.note} has platform {name}, which images/matrix.yaml lacks: add it there with"
            " its cann_tag and soc_version, and to the release's platforms",
            "left out",
        )
        for name in line.value
        if name not in there
    ]
    return Line(line.key, there, line.note), questions


def decisions(matrix: Matrix, sources: Sources) -> Iterator[Decision]:
    """Where the Dockerfiles have something else than the matrix says of every release."""
    for part, facts, theirs, ours in (
        ("soc_version", soc_versions(sources), "compiles for", "for"),
        ("cann_tag", cann_tags(sources), "stands on a CANN image for", "on one for"),
    ):
        for fact in facts:
            platform = matrix.platforms.get(fact.key)
            stated = getattr(platform, part) if platform else fact.value
            if stated != fact.value:
                yield Decision(
                    f"platforms.{fact.key}.{part}",
                    f"{fact.source} {theirs} {fact.value}, images/matrix.yaml {ours} {stated}:"
                    " which is right for every release?",
                    stated,
                )
    yield from _common(matrix, sources)


def _common(matrix: Matrix, sources: Sources) -> Iterator[Decision]:
    """common_requirements against what the first Dockerfile that names one installs."""
    said: dict[str, tuple[Requirement, str]] = {}
    for one in dockerfiles(sources.vllm_ascend):
        for text, line in one.required():
            if "://" not in text and not text.startswith(("/", ".")):
                requirement = Requirement(text)
                said.setdefault(canonicalize_name(requirement.name), (requirement, one.cite(line)))
    for wanted in map(Requirement, matrix.common_requirements):
        name = canonicalize_name(wanted.name)
        if name not in said:
            question = f"no Dockerfile installs {wanted.name} any more: does the image need it?"
            yield Decision(f"common_requirements.{name}", question, str(wanted))
        elif said[name][0].specifier != wanted.specifier:
            theirs, source = said[name]
            question = f"{source} has {theirs}, images/matrix.yaml {wanted}: which holds for all?"
            yield Decision(f"common_requirements.{name}", question, str(wanted))


def paired(text: str, entry: Entry, release: str) -> tuple[str, Decision | None]:
    """images/matrix.yaml with the release's torch, torch_npu and CANN among its pairs.

    The line of a pair that is there gets one more CANN; a new pair is a line below the last one.
    """
    torch, npu, cann = (str(entry[key].value) for key in ("torch", "torch_npu", "cann"))
    start = f"  - {{torch: {torch}, torch_npu: {npu}, cann: ["
    pattern = rf"^({re.escape(start)})([^\]]*)(\]\}})"
    match = re.search(pattern, text, re.MULTILINE)
    if match and cann in re.split(r",\s*", match[2]):
        return text, None
    question = (
        f"torch {torch}, torch_npu {npu} and CANN {cann} are a new pair, by {entry['cann'].note}"
        f" and {entry['torch_npu'].note} alone: does the vendor's table of versions say so too?"
    )
    decision = Decision("pairs", question, f"added to pairs in images/matrix.yaml, for {release}")
    if match:
        changed = f"{match[1]}{match[2]}, {cann}{match[3]}"
        return text[: match.start()] + changed + text[match.end() :], decision
    *_, last = re.finditer(r"^  - \{torch: .*\}.*\n", text, re.MULTILINE)
    return text[: last.end()] + f"{start}{cann}]}}\n" + text[last.end() :], decision
