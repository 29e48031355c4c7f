"""What `invoke cluster.check` prints: the findings in a cluster file and in its deployment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clusters.checks import load_deployment
from clusters.show.output import Line, count
from common.errors import ERROR, WARNING, Finding, UserError

_STYLES = {ERROR: "red", WARNING: "yellow"}


@dataclass(frozen=True)
class Report:
    """`nodes` and `containers` are 0 when the file has errors."""

    file: str
    nodes: int
    containers: int
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        return self.count(ERROR) > 0

    def count(self, severity: str) -> int:
        return sum(one.severity == severity for one in self.findings)

    def lines(self) -> Iterator[Line]:
        """A line for each finding, and a summary."""
        for one in self.findings:
            yield Line(str(one), style=_STYLES[one.severity])
        counts = [
            *([count(self.nodes, "node"), count(self.containers, "container")] * bool(self.nodes)),
            *(count(self.count(kind), kind) for kind in _STYLES if self.count(kind)),
        ]
        end = [] if self.findings else ["no findings"]
        yield Line(f"{self.file}: {', '.join([*counts, *end])}")

    def data(self) -> dict[str, Any]:
        return asdict(self)


def check(path: str | Path) -> Report:
    """The report on a cluster file."""
    try:
        deployment = load_deployment(path)
    except UserError as wrong:
        return Report(str(path), 0, 0, wrong.findings)
    return Report(
        str(path), len(deployment.cluster.nodes), len(deployment.containers), deployment.findings
    )
