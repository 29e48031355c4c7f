"""Bump to a new release of upstream: derive from its sources every file that a release needs.

Each step writes its files completely, skips what exists, and can be repeated.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from common.errors import EX_DATAERR, UserError, user_error
from common.files import write_output
from common.paths import ROOT
from common.terminal import Say
from common.yaml import document
from docs.render import reference
from entrypoints.inputs import recipes
from entrypoints.inputs.recipes import Recipe
from images import matrix as matrices
from images.locking import checks, vendor
from images.locking.index import Wheels
from images.matrix import Matrix, Mooncake, Release
from images.mirrors import Mirrors
from upstream import baselines, dialect, package_index
from upstream.bump import (
    image_questions,
    matrix_updates,
    pins,
    pins_file,
    recipe_effects,
    release_diff,
    shipped_diff,
    upload_dates,
)
from upstream.bump.fact_collector import merge
from upstream.bump.pins_file import Pin, Pins
from upstream.bump.recipe_effects import Effect
from upstream.bump.release_diff import Section
from upstream.bump.upload_dates import UploadDates
from upstream.catalogues import catalogue_files
from upstream.dialect import dialect_file
from upstream.facts import Contradiction, Decision, Derived
from upstream.sources import Sources

NEWEST = "newest"
NOT_UPSTREAMS = "upstream names none; as in {}"
# Questions about the dialect that one answer may settle for several names.
GROUP_QUESTIONS = {
    "variables_gone": "nothing reads these any more; what should an operator who sets one do?",
    "flags_gone": "vllm serve no longer has these; what replaces them?",
    "features": "the previous release's form is gone; is there another, or does another feature"
    " cover it?",
    "connectors_gone": "connectors with these names no longer exist; what replaces them?",
}


@dataclass(frozen=True)
class Step:
    """`outcome`: written, would be written, unchanged, remains or failed.

    `command`: completes the step if it remains.
    """

    name: str
    outcome: str
    paths: tuple[str, ...] = ()
    detail: str = ""
    command: str = ""


@dataclass(frozen=True)
class BumpResult:
    """`kept`: the pins marked `by hand`. `effects`: on recipes of `previous`."""

    release: str
    previous: str
    steps: tuple[Step, ...]
    changes: tuple[Section, ...]
    contradictions: tuple[Contradiction, ...]
    decisions: tuple[Decision, ...]
    kept: tuple[Pin, ...] = ()
    effects: tuple[Effect, ...] = ()

    @property
    def failed(self) -> bool:
        return any(step.outcome == "failed" for step in self.steps)


@dataclass(frozen=True)
class Project:
    """The project's files, and the functions that query the package index and vLLM.

    `catalogue` and `lock` write their files and return them; both raise UserError. `pages` writes
    the reference and returns page → status. `buildable`: whether the index has a source
    distribution of that vLLM. `wheels`: whether the user gave wheels that the index lacks.
    `recipes`: the recipes to report effects on.
    """

    root: Path
    sources: Callable[[str], Sources]
    uploads: Callable[[str, Mapping[str, str]], UploadDates]
    buildable: Callable[[str], bool]
    catalogue: Callable[[Release], Iterable[Path]]
    lock: Callable[[Matrix, Release], Path]
    pages: Callable[[Matrix], Mapping[Path, str]]
    wheels: bool = False
    recipes: Callable[[], Iterable[Recipe]] = tuple

    @classmethod
    def checkout(cls, wheels: Wheels, given: tuple[str, ...], say: Say) -> Project:
        """This checkout with the package index; `given`: locations of further wheels."""
        return cls(
            ROOT,
            Sources.of,
            upload_dates.derive,
            _buildable,
            lambda release: catalogue_files.update([release], wheels, say),
            lambda matrix, one: vendor.lock_release(
                matrix, one, wheels.torch_index or None, given, _certificates(), say
            ),
            lambda matrix: reference.write(reference.pages(matrix)),
            bool(given),
            lambda: map(recipes.load, recipes.names()),
        )

    @property
    def matrix(self) -> Path:
        return self.root / "images" / "matrix.yaml"

    def pins(self, release: str) -> Path:
        return self.root / "images" / "releases" / f"{release}.yaml"

    def dialect(self, release: str) -> Path:
        return self.root / "env" / "releases" / f"{release}.yaml"


def resolve_release(release: str, versions: Callable[[], list[str]]) -> str:
    """`v0.23.0` for `0.23.0` or `v0.23.0`; the newest final release for `newest`.

    Raises UserError (64) if it is not a version, or not one of vllm-ascend.
    """
    text = package_index.newest(versions()) if release == NEWEST else release.removeprefix("v")
    try:
        Version(text)
    except InvalidVersion:
        raise user_error(release, "is not a version", "for example v0.23.0 or 0.23.0rc1") from None
    known = versions()
    if known and text not in known:
        near = ", ".join(f"v{one}" for one in package_index.near(text, known))
        raise user_error(release, "the index has no such vllm-ascend", f"it has {near}")
    return f"v{text}"


def run(project: Project, release: str, locking: bool, dry: bool, say: Say) -> BumpResult:
    """Run every step for a release. Raises UserError if none can start."""
    say(f"{release}: reading the source distributions of vllm-ascend and vLLM")
    sources = project.sources(release)
    own = project.pins(release)
    previous = previous_release(release, (path.stem for path in own.parent.glob("*.yaml")))
    # The release may be the default, whose file does not exist yet.
    template = own if own.is_file() else project.pins(previous)
    shared_before = project.matrix.read_text(encoding="utf-8")
    matrix = _matrix_with(project, release, template.read_text(encoding="utf-8"), shared_before)
    kept = pins_file.read(own)
    old = pins_file.read(project.pins(previous))
    derived, lines, absent = _derive_pins(project, sources, kept, old, previous)
    if "platforms" in lines:
        lines["platforms"], questions = matrix_updates.known_platforms(matrix, lines["platforms"])
        derived = merge([derived, Derived((), (), tuple(questions))])
    shared, pair = matrix_updates.add_pair(shared_before, lines, release)
    text = pins_file.render(release, lines)
    _matrix_with(project, release, text, shared)
    decisions = [
        *derived.decisions,
        *matrix_updates.conflicts(matrix, sources),
        *([pair] if pair else []),
    ]
    steps = [
        _write("pairs", project, project.matrix, shared, dry),
        _write("pins", project, own, text, dry),
    ]
    dialect_text, dialect_facts = _dialect(project, sources, previous)
    contradictions = [*derived.contradictions, *dialect_facts.contradictions]
    decisions += group_decisions(dialect_facts.decisions)
    steps.append(_write("dialect", project, project.dialect(release), dialect_text, dry))
    if figures := baselines.text(sources.vllm_ascend):
        path = project.root / "env" / "baselines" / f"{release}.yaml"
        steps.append(_write("baselines", project, path, figures, dry))
    if not dry:
        matrix = matrices.load(project.matrix)
        steps.append(_catalogue(project, matrix.releases[release]))
        if not any(step.outcome == "failed" for step in steps):
            steps.append(_pages(project, matrix))
        steps.append(_lock(project, matrix, matrix.releases[release], absent, locking))
    vllms = tuple(str(one["vllm"].value) for one in (old, lines))
    document = dialect_file.document(dialect_facts)
    sections = release_diff.compare(
        old, lines, (previous, release), (vllms[0], vllms[1]), project.root / "env", document
    )
    say(f"{previous}: reading the source distributions, to compare")
    earlier, unread = _earlier(project, previous)
    if earlier:
        sections[1:1] = shipped_diff.compare(earlier.vllm_ascend, sources.vllm_ascend)
        there = {one.title for one in sections}
        more = shipped_diff.catalogues(earlier, sources)
        sections += [one for one in more if one.title not in there]
        settled = {one.key for one in image_questions.build_variables(earlier.vllm_ascend)}
        decisions = [one for one in decisions if one.key not in settled]
    decisions += unread
    effects = recipe_effects.effects(project.recipes(), previous, document, sources, earlier)
    by_hand = tuple(line for line in lines.values() if line.by_hand)
    return BumpResult(
        release,
        previous,
        tuple(steps),
        tuple(sections),
        tuple(contradictions),
        tuple(decisions),
        by_hand,
        tuple(effects),
    )


def _earlier(project: Project, previous: str) -> tuple[Sources | None, list[Decision]]:
    """The sources of the previous release, or a decision if they cannot be read."""
    try:
        return project.sources(previous), []
    except UserError as error:
        detail = "; ".join(one.message for one in error.findings)
        question = f"{previous} cannot be read ({detail}): what changed in upstream's image?"
        return None, [Decision("image", question, "not compared")]


def previous_release(release: str, known: Iterable[str]) -> str:
    """The release to compare with: the latest earlier one, else the first later one."""
    ordered = sorted((name for name in known if name != release), key=Version)
    if not ordered:
        raise user_error(release, "has no other release to compare with", exit_code=EX_DATAERR)
    older = [name for name in ordered if Version(name) < Version(release)]
    return older[-1] if older else ordered[0]


def _derive_pins(
    project: Project, sources: Sources, kept: Pins, old: Pins, previous: str
) -> tuple[Derived, dict[str, Pin], Mapping[str, str]]:
    """The derived facts, the pins, and package → version of pins that the index lacks."""
    derived = pins.derive(sources)
    lines = pins_file.merge(pins_file.from_facts(derived.facts), kept)
    questions = []
    for key in pins_file.ORDER:
        there = {one.partition(".")[0] for one in lines}
        if key in there or key in (*pins_file.OPTIONAL, "published") or key not in old:
            continue
        lines[key] = Pin(
            key, old[key].value, f"{pins_file.BY_HAND}: {NOT_UPSTREAMS.format(previous)}"
        )
        question = f"no file of {sources.vllm_ascend} names it: is the value of {previous} right?"
        questions.append(Decision(key, question, old[key].value))
    uploads = project.uploads(str(lines["vllm_ascend"].value), _packages(lines))
    # A `later` set by hand overrides the index's.
    lines = pins_file.merge({**lines, **pins_file.from_facts(uploads.derived.facts)}, kept)
    every = merge([derived, uploads.derived, Derived((), (), tuple(questions))])
    return every, lines, uploads.absent


def _packages(lines: Pins) -> dict[str, str]:
    """Package → version of the pins that the lock takes from the index."""
    mooncake = lines["mooncake"].value
    package = Mooncake(mooncake.get("version", ""), mooncake.get("from", "")).package
    names = {"torch": "torch", "torch_npu": "torch-npu", "triton_ascend": "triton-ascend"}
    found = {package_: str(lines[key].value) for key, package_ in names.items()}
    return {**found, str(canonicalize_name(package)): str(mooncake["version"])}


def _matrix_with(project: Project, release: str, text: str, shared: str) -> Matrix:
    """The matrix with this text of the release's file, and `shared` as matrix.yaml.

    Raises UserError (65) if it is invalid.
    """
    with tempfile.TemporaryDirectory(prefix="bump-") as scratch:
        copy = Path(scratch)
        (copy / "releases").mkdir()
        for path in project.pins(release).parent.glob("*.yaml"):
            (copy / "releases" / path.name).write_bytes(path.read_bytes())
        (copy / "releases" / f"{release}.yaml").write_text(text, encoding="utf-8")
        (copy / "matrix.yaml").write_text(shared, encoding="utf-8")
        return matrices.load(copy / "matrix.yaml")


def _write(name: str, project: Project, path: Path, text: str, dry: bool) -> Step:
    paths = (str(path.relative_to(project.root)),)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return Step(name, "unchanged", paths)
    if dry:
        return Step(name, "would be written", paths)
    write_output(path, text, parents=True)
    return Step(name, "written", paths)


def _dialect(project: Project, sources: Sources, previous: str) -> tuple[str, Derived]:
    """The text of env/releases, which keeps what people wrote in it or in the previous one."""
    own = project.dialect(sources.release)
    names: dict[str, str] = {}
    if own.is_file():
        known = document(own)
    else:
        known = document(project.dialect(previous))
        defined = document(project.root / "env" / "variables" / f"{previous}.json")["vllm_ascend"]
        names = dict.fromkeys(defined, previous)
    derived = dialect.derive(sources, known, names)
    return dialect_file.render(dialect_file.document(derived)), derived


def group_decisions(decisions: Iterable[Decision]) -> list[Decision]:
    """Merge the questions about removed names into one for each kind."""
    each: list[Decision] = []
    kinds: dict[str, list[Decision]] = {}
    for one in decisions:
        kind, _, name = one.key.partition(".")
        if kind in GROUP_QUESTIONS and (kind.endswith("_gone") or "." not in name):
            kinds.setdefault(kind, []).append(one)
        else:
            each.append(one)
    for kind, several in kinds.items():
        names = ", ".join(one.key.split(".")[1] for one in several)
        each.append(Decision(kind, f"{names}: {GROUP_QUESTIONS[kind]}", several[0].taken))
    return each


def _pages(project: Project, matrix: Matrix) -> Step:
    """Render the reference from the files of the earlier steps."""
    found = project.pages(matrix)
    paths = tuple(
        str(path.relative_to(project.root)) for path, was in found.items() if was != "same"
    )
    return Step("reference", "written" if paths else "unchanged", paths)


def _catalogue(project: Project, release: Release) -> Step:
    names = tuple(str(path.relative_to(ROOT)) for path in catalogue_files.paths(release))
    if all((project.root / name).is_file() for name in names):
        return Step("flags", "unchanged", names)
    try:
        project.catalogue(release)
    except UserError as error:
        return _failed("flags", error, f"invoke flags --release {release.name}")
    return Step("flags", "written", names)


def _lock(
    project: Project,
    matrix: Matrix,
    release: Release,
    absent: Mapping[str, str],
    locking: bool,
) -> Step:
    locks = project.root / "images" / "locks"
    paths = (f"images/locks/{release.name}",)
    if not checks.check(matrix, release, locks):
        return Step("locks", "unchanged", paths)
    if not locking:
        return Step("locks", "remains", paths, "skipped", f"invoke lock --release {release.name}")
    again = f"invoke bump {release.name} --wheels DIR"
    if not release.vllm_wheel_without and not project.buildable(release.vllm):
        what = f"the index has no source distribution of vLLM {release.vllm}, which a lock needs"
        return Step("locks", "remains", paths, what, f"invoke lock --release {release.name}")
    unknown = {name: version for name, version in absent.items() if name not in release.vendor}
    if unknown and not project.wheels:
        missing = ", ".join(f"{name} {version}" for name, version in unknown.items())
        what = f"the index lacks {missing}: state under `vendor` where upstream gets them"
        return Step("locks", "remains", paths, what, again)
    try:
        project.lock(matrix, release)
    except UserError as error:
        return _failed("locks", error, f"invoke lock --release {release.name}")
    problems = checks.check(matrix, release, locks)
    if problems:
        detail = "; ".join(map(str, problems))
        return Step("locks", "failed", paths, detail, f"invoke lock --release {release.name}")
    return Step("locks", "written", paths)


def _certificates() -> str:
    return Mirrors.of(os.environ).certificates


def _failed(name: str, error: UserError, command: str) -> Step:
    return Step(name, "failed", detail="; ".join(map(str, error.findings)), command=command)


def _buildable(vllm: str) -> bool:
    try:
        return any(one.name.endswith(".tar.gz") for one in package_index.files("vllm", vllm))
    except UserError:
        return False
