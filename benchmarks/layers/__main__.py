"""python -m benchmarks.layers: our layered build compared with upstream's shape; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.layers import bases, layers_report
from benchmarks.layers.cases import (
    CASES,
    FIRST,
    NEW,
    SECOND,
    Meter,
    Samples,
    run_ours,
    run_upstream,
)
from benchmarks.layers.docker import BenchmarkError, docker, forget
from benchmarks.layers.ours import Ours
from benchmarks.layers.registry import Registry
from benchmarks.layers.upstream import Upstream
from common.errors import UserError
from images.build.options import parse_arches
from images.matrix import load
from images.mirrors import Mirrors


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    add = parser.add_argument
    add(
        "--prune",
        action="store_true",
        help="agree to empty the engine's build cache",
    )
    add("--arch", default="", help="amd64 or arm64 (default: this machine's)")
    add("--release", default=None, help="a release of the matrix (default: the reference)")
    add("--cases", default=",".join(CASES), help="of %(default)s; cold is always built")
    add("--shapes", default="ours,upstream", help="of %(default)s")
    add("--runs", type=int, default=1, help="runs of our shape, each from cold (1)")
    add("--repeat", type=int, default=5, help="builds with nothing changed in each run (5)")
    add("--patience", type=float, default=120, help="seconds to wait for an idle machine (120)")
    add("--work", type=Path, help="directory for the registry and the copies (default: temporary)")
    add("--logs", type=Path, default=Path("build/bench-layers"), help="directory for build output")
    add("--out", type=Path, help="write everything measured as JSON")
    given = parser.parse_args()
    given.cases = [word for word in given.cases.split(",") if word]
    if wrong := [case for case in given.cases if case not in CASES]:
        parser.error(f"--cases: {', '.join(wrong)} not in {', '.join(CASES)}")
    if not given.prune:
        parser.error(
            "a cold build needs an empty build cache, so this runs 'docker builder prune --all': "
            "confirm with --prune (DOCKER_HOST chooses another engine)"
        )
    return given


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(given: argparse.Namespace, work: Path) -> Samples:
    """Make the bases, then measure each shape separately."""
    matrix = load()
    (arch,) = parse_arches(matrix, [given.arch] if given.arch else [])
    release = matrix.release(given.release).name
    mirrors = Mirrors.of(os.environ)
    secrets = mirrors.secrets(work / "secrets")
    logs = given.logs.absolute()
    samples = Samples()
    bases.provide_roots(matrix, arch, say)
    with Registry(work / "registry") as registry:
        say(f"bases for {arch.name}, in a registry at {registry.address}")
        meter = Meter(registry, samples, given.patience, say)
        forget(f"{registry.address}/")
        try:
            names = [FIRST, SECOND, NEW]
            made = bases.make(
                matrix, arch, release, names, registry.address, secrets, work / "bases"
            )
            bases.pull(made, arch)
            registry.save()
            if "ours" in given.shapes:
                ours = Ours(work / "project", registry.address, arch.name, release, logs)
                for run in range(given.runs):
                    run_ours(ours, meter, made, given.cases, given.repeat, run)
            if "upstream" in given.shapes:
                upstream = Upstream(
                    work / "upstream", registry.address, arch.name, release, secrets, logs
                )
                soc = {name: matrix.platform(name).soc_version for name in (FIRST, SECOND)}
                run_upstream(upstream, meter, made, soc, given.cases, 0)
        finally:
            forget(f"{registry.address}/")
    return samples


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the registry is ended too
    before = os.getloadavg()
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    try:
        engine = docker("version", "--format", "{{.Server.Version}}").strip()
        with tempfile.TemporaryDirectory(dir=given.work, prefix="bench-layers-") as scratch:
            samples = measure(given, Path(scratch))
    except (BenchmarkError, UserError) as error:
        say(f"error: {error}")
        return 70
    found = layers_report.rows(samples)
    print(layers_report.table(found))
    if given.out:
        machine = {"cores": os.cpu_count(), "load_before": before, "engine": engine}
        rows = [layers_report.row_data(row) for row in found]
        answer = {"machine": machine, "rows": rows, **samples.data()}
        given.out.write_text(json.dumps(answer, indent=1) + "\n")
    return 1 if any(row.verdict == "FAIL" for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
