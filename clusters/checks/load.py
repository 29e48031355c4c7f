"""Reads, compiles and checks a cluster file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clusters import checks, compile
from clusters.deployment import Deployment
from clusters.file import read
from common.errors import EX_DATAERR, UserError


def load_deployment(path: str | Path) -> Deployment:
    """The deployment that a file describes, with all findings about it.

    Raises UserError (65) when the file has errors.
    """
    return checked(read.read(path))


def checked(found: read.Reading) -> Deployment:
    """As `load`, for a file that was already read."""
    if found.cluster is None:
        raise UserError(found.findings, EX_DATAERR)
    deployment = compile.deployment(found.cluster)
    return replace(
        deployment, findings=tuple(sorted({*found.findings, *checks.findings(deployment)}))
    )
