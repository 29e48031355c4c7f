"""Commands that follow upstream: its releases, packages and flags, and the facts stated here."""

from __future__ import annotations

from pathlib import Path

from commands.command import argument, command, option, output, say
from commands.options import (
    ARCH,
    DRY_RUN,
    FORMAT,
    RELEASE,
    TORCH_INDEX,
    WHEELS,
    environ,
    releases,
    words,
)


@command(checkout=True)
def bump(
    release: str = argument(
        "v0.18.0 or 0.18.0; or newest: the index's newest release, no candidate", ("newest",)
    ),
    dry_run: bool = DRY_RUN,
    lock: bool = option("skip the locks, which take minutes", default=True),
    wheels: str = WHEELS,
    torch_index: str = TORCH_INDEX,
    format: str = FORMAT,
) -> None:
    """Add an upstream release to the project

    Writes its pins, dialect, flags, variables and locks from upstream's own files; prints what
    changed, where upstream contradicts itself, and what a person must decide. Keeps what already
    exists.

        invoke bump v0.18.0
    """
    from common.errors import EX_UNAVAILABLE, Finding, UserError
    from images.locking.index import Wheels
    from upstream import package_index
    from upstream.bump import bump_release, bump_report

    found = Wheels.of(environ(), wheels, torch_index)
    name = bump_release.resolve_release(release, lambda: package_index.versions("vllm-ascend"))
    project = bump_release.Project.checkout(found, tuple(words(wheels)), say)
    done = bump_release.run(project, name, lock, dry_run, say)
    output(format, bump_report.data(done), lambda: bump_report.text(done))
    if done.failed:
        failed = [one for one in done.steps if one.outcome == "failed"]
        problems = [Finding(one.name, one.detail, one.command) for one in failed]
        raise UserError(problems, EX_UNAVAILABLE)


@command(checkout=True)
def audit(
    release: str = option("one release (default: all)", releases),
    flags: bool = option("also ask vLLM's own parser what the flags take: a minute for each vLLM"),
    confirmed: bool = option("list each confirmed statement with its place, not just a count"),
    wheels: str = WHEELS,
    torch_index: str = TORCH_INDEX,
    format: str = FORMAT,
) -> None:
    """Check what the project states about releases against upstream

    For each pin, name, default, port and source, finds the file and line that confirm or contradict
    it, or reports that it cannot be checked. Exits with 65 when anything is contradicted, or a rule
    names no source.

        invoke audit --release v0.18.0
    """
    from images.locking.index import Wheels
    from upstream import audit as audits
    from upstream.audit import audit_report

    found = Wheels.of(environ(), wheels, torch_index)
    checkout = audits.Audit.checkout(found if flags else None, say)
    results = audits.run(checkout, release or None, say)
    output(format, audit_report.data(results), lambda: audit_report.text(results, confirmed))
    audits.enforce(results)


@command(checkout=True)
def lock(
    release: str = RELEASE,
    all: bool = option("every release of the matrix that can be locked"),
    check: bool = option("resolve nothing; fail if the matrix and the locks disagree"),
    tools: bool = option("lock the build's own tools instead of a release"),
    vllm: str = option("a vLLM of platform cpu, instead of a release"),
    arch: str = ARCH,
    wheels: str = WHEELS,
    torch_index: str = TORCH_INDEX,
) -> None:
    """Lock a release's packages by hash, as of its date

    Writes a requirements file for each layer. Without --release, --check covers everything that has
    a lock. Hashes the vendor's packages too if their addresses, or --wheels, can be reached.
    --arch is for --vllm.

        invoke lock --release v0.13.0
    """
    from common.errors import EX_DATAERR, UserError
    from images.build.options import parse_arches
    from images.locking import checks, cpu, vendor
    from images.locking import lock as locks
    from images.locking.index import Wheels
    from images.matrix import load
    from images.mirrors import Mirrors

    matrix = load()
    if check:
        checked = checks.checked(matrix, release or None)
        of_cpu = list(cpu.locked(matrix))
        problems = [
            *checks.check_tools(matrix),
            *(p for r in checked for p in checks.check(matrix, r)),
            *(p for one, its in of_cpu for p in cpu.check(matrix, one, [its])),
        ]
        if problems:
            raise UserError(problems, EX_DATAERR)
        names = [*(r.name for r in checked), *dict.fromkeys(one.lock for one, _ in of_cpu)]
        print(f"locks agree with the matrix: {', '.join(names)}")
    elif vllm:
        found = Wheels.of(environ(), wheels, torch_index)
        arches = parse_arches(matrix, words(arch))
        for path in cpu.make(matrix, matrix.cpu_vllm(vllm), arches, found, say):
            print(path)
    elif tools:
        locks.lock_tools(matrix, say)
    else:
        mirrors = Mirrors.of(environ(), torch_index=torch_index)
        given = Wheels.of(environ(), wheels, torch_index).find_links
        for one in matrix.releases.values() if all else [matrix.release(release)]:
            print(
                vendor.lock_release(
                    matrix, one, mirrors.torch_index, given, mirrors.certificates, say
                )
            )


@command(checkout=True)
def flags(
    release: list[str] = option("a release of the matrix; repeatable", releases),
    all: bool = option("every release of the matrix"),
    check: bool = option("write nothing; fail if the files differ from what vLLM says"),
    wheels: str = WHEELS,
    torch_index: str = TORCH_INDEX,
    format: str = FORMAT,
) -> None:
    """Ask a release's vLLM for its flags and variables

    Writes env/flags and env/variables, which the container checks flags and variables against.

        invoke flags --release v0.13.0
    """
    from common.errors import EX_DATAERR, UserError
    from images.locking.index import Wheels
    from images.matrix import load
    from upstream.catalogues import catalogue_files

    chosen = catalogue_files.select(load(), release, all)
    found = Wheels.of(environ(), wheels, torch_index)
    changed: list[Path] = []
    if check:
        if problems := catalogue_files.check(chosen, found, say):
            raise UserError(problems, EX_DATAERR)
    else:
        changed = catalogue_files.update(chosen, found, say)
    rows = catalogue_files.summary(chosen, changed)
    output(format, rows, lambda: catalogue_files.summary_text(rows))
