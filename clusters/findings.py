"""What is wrong with a cluster, or risky, and where in its file."""

from __future__ import annotations

from dataclasses import dataclass

from entrypoints.problems import one_line

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True, order=True)
class Finding:
    """`where`: what it is about, as `instances.decode`. `line` counts from 1."""

    file: str
    line: int
    severity: str
    code: str
    where: str
    message: str
    fix: str
    source: str = ""

    def text(self) -> str:
        """`file:line: error: where: message; fix [code, source]` on one line."""
        tail = f"{self.code}, {self.source}" if self.source else self.code
        return one_line(
            f"{self.file}:{self.line}: {self.severity}: {self.where}: {self.message};"
            f" {self.fix} [{tail}]"
        )
