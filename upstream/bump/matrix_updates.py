"""Compare a release with what all releases share in matrix.yaml, and add its pair of versions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.matrix import Matrix
from upstream.bump.pins import cann_tags, soc_versions
from upstream.bump.pins_file import Pin, Pins
from upstream.dockerfile import dockerfiles
from upstream.facts import Decision
from upstream.sources import Sources


def known_platforms(matrix: Matrix, line: Pin) -> tuple[Pin, list[Decision]]:
    """Keep the platforms that the matrix has; each other one becomes a decision."""
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
    return Pin(line.key, there, line.note), questions


def conflicts(matrix: Matrix, sources: Sources) -> Iterator[Decision]:
    """Where the Dockerfiles differ from what the matrix states for every release."""
    for part, facts, what in (
        ("soc_version", soc_versions(sources), "compiles for"),
        ("cann_tag", cann_tags(sources), "uses a CANN image for"),
    ):
        for fact in facts:
            platform = matrix.platforms.get(fact.key)
            stated = getattr(platform, part) if platform else fact.value
            if stated != fact.value:
                yield Decision(
                    f"platforms.{fact.key}.{part}",
                    f"{fact.source} {what} {fact.value}, images/matrix.yaml has {stated}:"
                    " which is right for every release?",
                    stated,
                )
    yield from _common(matrix, sources)


def _common(matrix: Matrix, sources: Sources) -> Iterator[Decision]:
    """Compare common_requirements with the first Dockerfile that installs each."""
    installed: dict[str, tuple[Requirement, str]] = {}
    for one in dockerfiles(sources.vllm_ascend):
        for text, line in one.required():
            if "://" not in text and not text.startswith(("/", ".")):
                requirement = Requirement(text)
                installed.setdefault(
                    canonicalize_name(requirement.name), (requirement, one.cite(line))
                )
    for wanted in map(Requirement, matrix.common_requirements):
        name = canonicalize_name(wanted.name)
        if name not in installed:
            question = f"no Dockerfile installs {wanted.name} any more: does the image need it?"
            yield Decision(f"common_requirements.{name}", question, str(wanted))
        elif installed[name][0].specifier != wanted.specifier:
            theirs, source = installed[name]
            question = (
                f"{source} has {theirs}, images/matrix.yaml {wanted}: which is right for all?"
            )
            yield Decision(f"common_requirements.{name}", question, str(wanted))


def add_pair(text: str, entry: Pins, release: str) -> tuple[str, Decision | None]:
    """Add the release's torch, torch_npu and CANN to the pairs in the text of matrix.yaml.

    An existing pair gets one more CANN; a new pair becomes a line below the last one.
    """
    torch, npu, cann = (str(entry[key].value) for key in ("torch", "torch_npu", "cann"))
    start = f"  - {{torch: {torch}, torch_npu: {npu}, cann: ["
    pattern = rf"^({re.escape(start)})([^\]]*)(\]\}})"
    match = re.search(pattern, text, re.MULTILINE)
    if match and cann in re.split(r",\s*", match[2]):
        return text, None
    question = (
        f"torch {torch}, torch_npu {npu} and CANN {cann} are a new pair, known only from"
        f" {entry['cann'].note} and {entry['torch_npu'].note}: does the vendor's table of versions"
        " confirm it?"
    )
    decision = Decision("pairs", question, f"added to pairs in images/matrix.yaml, for {release}")
    if match:
        changed = f"{match[1]}{match[2]}, {cann}{match[3]}"
        return text[: match.start()] + changed + text[match.end() :], decision
    *_, last = re.finditer(r"^  - \{torch: .*\}.*\n", text, re.MULTILINE)
    return text[: last.end()] + f"{start}{cann}]}}\n" + text[last.end() :], decision
