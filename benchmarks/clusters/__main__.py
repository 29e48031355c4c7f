"""python -m benchmarks.clusters: check, plan and render large clusters; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import yaml

from benchmarks.clusters import clusters_report, large_cluster
from benchmarks.clusters.clusters_report import Size
from clusters.checks import checked
from clusters.deployment import Deployment
from clusters.file import read
from clusters.render import formats
from clusters.show import diff, output, picture, plan
from clusters.show.topology import topology
from common.errors import ERROR

FILE = "large.yaml"


def check(text: str) -> Deployment:
    """Do what cluster.check does: read the file, check its schema, and plan every container."""
    made = checked(read.read_text(FILE, text))
    wrong = [str(one) for one in made.findings if one.severity == ERROR]
    assert not wrong, wrong
    return made


def measure(nodes: int, runs: int) -> Size:
    """Time every step, `runs` times."""
    text = large_cluster.text(nodes)
    deployment = check(text)
    steps: dict[str, Callable[[], Any]] = {
        "check": lambda: check(text),
        "plan": lambda: output.join(plan.text(deployment)),
        "docker": lambda: formats.text(formats.renderer("docker")(deployment)),
        "compose": lambda: formats.text(formats.renderer("compose")(deployment)),
        "lws": lambda: formats.text(formats.renderer("lws")(deployment)),
        "picture": lambda: picture.svg(topology(deployment)),
        "diff": lambda: output.join(diff.text(diff.compare(deployment, deployment))),
        clusters_report.YAML[0]: lambda: yaml.load(text, yaml.CSafeLoader),
        clusters_report.YAML[1]: lambda: yaml.load(text, yaml.SafeLoader),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            start = process_time()
            step()
            times[name].append(process_time() - start)
    return Size(nodes, times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clusters", description=__doc__)
    parser.add_argument("--nodes", default="100,300,1000", help="sizes (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    given = parser.parse_args()
    load = os.getloadavg()
    sizes = [measure(int(nodes), given.runs) for nodes in given.nodes.split(",")]
    print(clusters_report.table(sizes))
    found = clusters_report.verdicts(sizes)
    print("\n".join(clusters_report.verdict_text(one) for one in found))
    if given.out:
        machine = {"cores": os.cpu_count(), "load_before": load}
        answer = {"machine": machine, "sizes": [vars(size) for size in sizes]}
        given.out.write_text(json.dumps(answer, indent=1) + "\n")
    return 0 if all(one.passed for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
