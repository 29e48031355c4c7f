"""A container as the engine's API takes it: the body of POST /containers/create."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clusters.model import Cluster, Secret
from clusters.runtime.options import ENGINE, merge, translate
from clusters.runtime.spec import Spec
from common.errors import EX_DATAERR, Finding, UserError


def container_configs(
    cluster: Cluster, specs: Iterable[Spec], environ: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Container's name → body, with the values of secrets.

    Raises UserError (65) for missing secrets and for options without a translation.
    """
    findings: list[Finding] = []
    extra: dict[str, Any] = {}
    try:
        extra = translate(cluster.options, ENGINE, f"{cluster.file}: options")
    except UserError as error:
        findings += error.findings
    specs = tuple(specs)
    wanted = {secret for spec in specs for secret in spec.secrets}
    values = {
        secret.variable: _secret_value(cluster, secret, environ, findings)
        for secret in cluster.secrets
        if secret in wanted
    }
    if findings:
        raise UserError(findings, EX_DATAERR)
    return {spec.name: _container_config(spec, values, extra) for spec in specs}


def _container_config(
    spec: Spec, secrets: Mapping[str, str], extra: Mapping[str, Any]
) -> dict[str, Any]:
    env = {**spec.env, **{one.variable: secrets[one.variable] for one in spec.secrets}}
    host: dict[str, Any] = {
        "NetworkMode": "host",
        "RestartPolicy": {"Name": spec.restart},
        "Devices": [
            {"PathOnHost": one, "PathInContainer": one, "CgroupPermissions": "rwm"}
            for one in spec.taken.devices
        ],
        "Mounts": [
            {"Type": "bind", "Source": m.source, "Target": m.target, "ReadOnly": m.read_only}
            for m in spec.taken.mounts
        ],
    }
    if spec.shm_gib:
        host["ShmSize"] = spec.shm_gib << 30
    body = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Cmd": list(spec.words) or None,
        "Labels": dict(spec.labels),
        "StopTimeout": spec.stop_timeout,
        "HostConfig": host,
    }
    return merge(body, extra)


def _secret_value(
    cluster: Cluster, secret: Secret, environ: Mapping[str, str], findings: list[Finding]
) -> str:
    """Read a secret from the environment or a file of this machine."""
    where = f"{cluster.file}: secrets.{secret.variable}"
    if secret.env:
        value = environ.get(secret.env, "")
        if not value:
            findings.append(Finding(where, f"{secret.env} is not set here", "export it first"))
        return value
    try:
        return Path(secret.file).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        findings.append(Finding(where, f"{secret.file}: {error.strerror}", "put the secret there"))
    except UnicodeDecodeError:
        findings.append(Finding(where, f"{secret.file} is not UTF-8", "put the secret there"))
    return ""
