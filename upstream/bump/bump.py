"""A new release of upstream, from its sources to everything the project keeps of a release.

Each step writes one thing whole, is left alone where that is there already, and can be repeated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from common.errors import EX_DATAERR, UserError, user_error
from common.files import write_output
from common.paths import ROOT
from common.terminal import Say
from docs.render import pages
from images import matrix as matrices
from images.locking import lock
from images.locking.index import Wheels
from images.matrix import Matrix, Mooncake, Release
from upstream import dialect, index
from upstream.bump import changes, entry, fitting, pins, uploads
from upstream.bump.changes import Section
from upstream.bump.claims import merged
from upstream.bump.entry import Entry, Line
from upstream.bump.uploads import Uploads
from upstream.catalogues import flags
from upstream.dialect import write
from upstream.model import Contradiction, Decision, Derived
from upstream.sources import Sources

NEWEST = "newest"
NOT_UPSTREAMS = "upstream names none; as in {}"
# Kinds of questions of the dialect that one answer may do for.
GONE = {
    "variables_gone": "nothing reads these any more; what is an operator who sets one to do?",
    "flags_gone": "vllm serve has these no more; what says the same now?",
    "features": "the form of the release before is gone; is there another, or does another feature"
    " cover it?",
    "connectors_gone": "no connector has these names any more; which one is there instead?",
}


@dataclass(frozen=True)
class Step:
    """`outcome`: written, would be written, unchanged, remains or failed.

    `command`: what does the step where it remains.
    """

    name: str
    outcome: str
    paths: tuple[str, ...] = ()
    detail: str = ""
    command: str = ""


@dataclass(frozen=True)
class Bumped:
    release: str
    previous: str
    steps: tuple[Step, ...]
    changes: tuple[Section, ...]
    contradictions: tuple[Contradiction, ...]
    decisions: tuple[Decision, ...]
    kept: tuple[Line, ...] = ()

    @property
    def failed(self) -> bool:
        return any(step.outcome == "failed" for step in self.steps)


@dataclass(frozen=True)
class Bump:
    """Where the files are, and what asks the package index and vLLM.

    `catalogue` and `lock` write their files and return them; both raise UserError. `pages`: writes
    the documentation's reference, page -> what it was before. `buildable`: whether there is a
    source distribution of that vLLM.
    """

    root: Path
    sources: Callable[[str], Sources]
    uploads: Callable[[str, Mapping[str, str]], Uploads]
    buildable: Callable[[str], bool]
    catalogue: Callable[[Release], Iterable[Path]]
    lock: Callable[[Matrix, Release], Path]
    pages: Callable[[Matrix], Mapping[Path, str]]
    wheels: bool = False

    @classmethod
    def of_project(cls, wheels: Wheels, given: tuple[str, ...], say: Say) -> Bump:
        """This checkout, by the package index; `given`: places of wheels that the index lacks."""
        return cls(
            ROOT,
            Sources.of,
            uploads.derive,
            _buildable,
            lambda release: flags.update([release], wheels, say),
            lambda matrix, one: lock.lock(
                matrix, one, wheels.torch_index or None, say, find_links=given
            ),
            lambda matrix: pages.write(pages.pages(matrix)),
            bool(given),
        )

    @property
    def matrix(self) -> Path:
        return self.root / "images" / "matrix.yaml"

    def pins(self, release: str) -> Path:
        return self.root / "images" / "releases" / f"{release}.yaml"

    def dialect(self, release: str) -> Path:
        return self.root / "env" / "releases" / f"{release}.yaml"


def named(release: str, versions: Callable[[], list[str]]) -> str:
    """`0.23.0` and `v0.23.0` alike as `v0.23.0`; `newest` as the newest that is no candidate.

    Raises UserError (64) for what is no version, or none of vllm-ascend's, with those near it.
    """
    text = index.newest(versions()) if release == NEWEST else release.removeprefix("v")
    try:
        Version(text)
    except InvalidVersion:
        raise user_error(release, "is no version", "such as v0.23.0 or 0.23.0rc1") from None
    known = versions()
    if known and text not in known:
        near = ", ".join(f"v{one}" for one in index.near(text, known))
        raise user_error(release, "the index has no vllm-ascend of this version", f"it has {near}")
    return f"v{text}"


def run(bump: Bump, release: str, locking: bool, dry: bool, say: Say) -> Bumped:
    """Take a release through every step. Raises UserError where no step can begin."""
    say(f"{release}: reading its source distribution, and its vLLM's")
    sources = bump.sources(release)
    own = bump.pins(release)
    previous = before(release, (path.stem for path in own.parent.glob("*.yaml")))
    # The release may be the default one, and its file is not there yet.
    stand_in = own if own.is_file() else bump.pins(previous)
    shared_before = bump.matrix.read_text(encoding="utf-8")
    matrix = _whole(bump, release, stand_in.read_text(encoding="utf-8"), shared_before)
    kept = entry.read(own)
    old = entry.read(bump.pins(previous))
    derived, lines, absent = _entry(bump, sources, kept, old, previous)
    if "platforms" in lines:
        lines["platforms"], questions = fitting.known_platforms(matrix, lines["platforms"])
        derived = merged([derived, Derived((), (), tuple(questions))])
    shared, pair = fitting.paired(shared_before, lines, release)
    text = entry.render(release, lines)
    _whole(bump, release, text, shared)
    decisions = [*derived.decisions, *fitting.decisions(matrix, sources), *([pair] if pair else [])]
    steps = [
        _put("pairs", bump, bump.matrix, shared, dry),
        _put("pins", bump, own, text, dry),
    ]
    words, spoken = _dialect(bump, sources, previous)
    contradictions = [*derived.contradictions, *spoken.contradictions]
    decisions += asked(spoken.decisions)
    steps.append(_put("dialect", bump, bump.dialect(release), words, dry))
    if not dry:
        matrix = matrices.load(bump.matrix)
        steps.append(_catalogue(bump, matrix.releases[release]))
        if not any(step.outcome == "failed" for step in steps):
            steps.append(_pages(bump, matrix))
        steps.append(_lock(bump, matrix, matrix.releases[release], absent, locking))
    vllms = tuple(str(one["vllm"].value) for one in (old, lines))
    sections = changes.between(
        old, lines, (previous, release), (vllms[0], vllms[1]), bump.root / "env"
    )
    by_hand = tuple(line for line in lines.values() if line.by_hand)
    return Bumped(
        release,
        previous,
        tuple(steps),
        tuple(sections),
        tuple(contradictions),
        tuple(decisions),
        by_hand,
    )


def before(release: str, known: Iterable[str]) -> str:
    """The release to compare with: the last one before it, or the first one after."""
    ordered = sorted((name for name in known if name != release), key=Version)
    if not ordered:
        raise user_error(release, "there is no other release to compare with", exit_code=EX_DATAERR)
    older = [name for name in ordered if Version(name) < Version(release)]
    return older[-1] if older else ordered[0]


def _entry(
    bump: Bump, sources: Sources, kept: Entry, old: Entry, previous: str
) -> tuple[Derived, dict[str, Line], Mapping[str, str]]:
    """What is derived, the lines of the pins, and the pins that the index lacks."""
    derived = pins.derive(sources)
    lines = entry.merged(entry.of(derived.facts), kept)
    questions = []
    for key in entry.ORDER:
        there = {one.partition(".")[0] for one in lines}
        if key in there or key in (*entry.OPTIONAL, "published") or key not in old:
            continue
        lines[key] = Line(key, old[key].value, f"{entry.BY_HAND}: {NOT_UPSTREAMS.format(previous)}")
        question = f"no file of {sources.vllm_ascend} names one: is that of {previous} right?"
        questions.append(Decision(key, question, old[key].value))
    said = bump.uploads(str(lines["vllm_ascend"].value), _packages(lines))
    # A person's `later` stands beside what the index says, and over it.
    lines = entry.merged({**lines, **entry.of(said.derived.facts)}, kept)
    every = merged([derived, said.derived, Derived((), (), tuple(questions))])
    return every, lines, said.absent


def _packages(lines: Entry) -> dict[str, str]:
    """Package -> version of the pins that the lock takes from the index."""
    mooncake = lines["mooncake"].value
    package = Mooncake(mooncake.get("version", ""), mooncake.get("from", "")).package
    names = {"torch": "torch", "torch_npu": "torch-npu", "triton_ascend": "triton-ascend"}
    found = {package_: str(lines[key].value) for key, package_ in names.items()}
    return {**found, str(canonicalize_name(package)): str(mooncake["version"])}


def _whole(bump: Bump, release: str, text: str, shared: str) -> Matrix:
    """The matrix as it would be with this text of the release, and this one of matrix.yaml.

    Raises UserError (65) when it could not be read.
    """
    with tempfile.TemporaryDirectory(prefix="bump-") as scratch:
        copy = Path(scratch)
        (copy / "releases").mkdir()
        for path in bump.pins(release).parent.glob("*.yaml"):
            (copy / "releases" / path.name).write_bytes(path.read_bytes())
        (copy / "releases" / f"{release}.yaml").write_text(text, encoding="utf-8")
        (copy / "matrix.yaml").write_text(shared, encoding="utf-8")
        return matrices.load(copy / "matrix.yaml")


def _put(name: str, bump: Bump, path: Path, text: str, dry: bool) -> Step:
    paths = (str(path.relative_to(bump.root)),)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return Step(name, "unchanged", paths)
    if dry:
        return Step(name, "would be written", paths)
    write_output(path, text, parents=True)
    return Step(name, "written", paths)


def _dialect(bump: Bump, sources: Sources, previous: str) -> tuple[str, Derived]:
    """The text of env/releases, by the words of people in the file itself or the one before."""
    own = bump.dialect(sources.release)
    names: dict[str, str] = {}
    if own.is_file():
        document = _document(own)
    else:
        document = _document(bump.dialect(previous))
        defined = _document(bump.root / "env" / "variables" / f"{previous}.json")["vllm_ascend"]
        names = dict.fromkeys(defined, previous)
    derived = dialect.derive(sources, document, names)
    return write.render(write.document(derived)), derived


def asked(decisions: Iterable[Decision]) -> list[Decision]:
    """What is gone is asked for once a kind, and not once a name."""
    each: list[Decision] = []
    kinds: dict[str, list[Decision]] = {}
    for one in decisions:
        kind, _, name = one.key.partition(".")
        if kind in GONE and (kind.endswith("_gone") or "." not in name):
            kinds.setdefault(kind, []).append(one)
        else:
            each.append(one)
    for kind, several in kinds.items():
        names = ", ".join(one.key.split(".")[1] for one in several)
        each.append(Decision(kind, f"{names}: {GONE[kind]}", several[0].taken))
    return each


def _pages(bump: Bump, matrix: Matrix) -> Step:
    """The reference is rendered from the files above."""
    found = bump.pages(matrix)
    paths = tuple(str(path.relative_to(bump.root)) for path, was in found.items() if was != "same")
    return Step("reference", "written" if paths else "unchanged", paths)


def _catalogue(bump: Bump, release: Release) -> Step:
    paths = (flags.flags_path(release), flags.variables_path(release))
    names = tuple(str(path.relative_to(ROOT)) for path in paths)
    if all((bump.root / name).is_file() for name in names):
        return Step("flags", "unchanged", names)
    try:
        bump.catalogue(release)
    except UserError as error:
        return _failed("flags", error, f"invoke flags --release {release.name}")
    return Step("flags", "written", names)


def _lock(
    bump: Bump,
    matrix: Matrix,
    release: Release,
    absent: Mapping[str, str],
    locking: bool,
) -> Step:
    locks = bump.root / "images" / "locks"
    paths = (f"images/locks/{release.name}",)
    if not lock.check(matrix, release, locks):
        return Step("locks", "unchanged", paths)
    if not locking:
        return Step("locks", "remains", paths, "left out", f"invoke lock --release {release.name}")
    again = f"invoke bump {release.name} --wheels DIR"
    if not bump.buildable(release.vllm):
        what = f"the index has no source distribution of vLLM {release.vllm}: nothing can be locked"
        return Step("locks", "remains", paths, what, f"invoke lock --release {release.name}")
    if absent and not bump.wheels:
        missing = ", ".join(f"{name} {version}" for name, version in absent.items())
        what = f"the index lacks {missing}: get the wheels from where upstream's Dockerfile does"
        return Step("locks", "remains", paths, what, again)
    try:
        bump.lock(matrix, release)
    except UserError as error:
        return _failed("locks", error, f"invoke lock --release {release.name}")
    problems = lock.check(matrix, release, locks)
    if problems:
        said = "; ".join(map(str, problems))
        return Step("locks", "failed", paths, said, f"invoke lock --release {release.name}")
    return Step("locks", "written", paths)


def _failed(name: str, error: UserError, command: str) -> Step:
    return Step(name, "failed", detail="; ".join(map(str, error.findings)), command=command)


def _document(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _buildable(vllm: str) -> bool:
    try:
        return any(one.name.endswith(".tar.gz") for one in index.files("vllm", vllm))
    except UserError:
        return False
