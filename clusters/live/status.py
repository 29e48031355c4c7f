"""The state of every container of a cluster."""

from __future__ import annotations

from clusters.deployment import Deployment
from clusters.live.engine import (
    Connect,
    ContainerInfo,
    Engine,
    EngineError,
    connect,
    connect_all,
    named_nodes,
)
from clusters.live.failure import failure_reason
from clusters.live.parallel import each
from clusters.live.table import MISSING, UNREACHABLE, Row, row
from clusters.runtime.spec import CLUSTER, NODE, start_order
from common.errors import Finding


def status(deployment: Deployment, connect: Connect = connect) -> tuple[list[Row], list[Finding]]:
    """A row for each container of the file, then for others of the cluster; and findings.

    Cluster, node and name identify a container. The findings are about unreachable engines.
    """
    label = f"{CLUSTER}={deployment.cluster.name}"
    containers = start_order(deployment)
    engines, findings = connect_all(named_nodes(deployment.cluster), connect)

    def ask(engine: Engine) -> list[Row] | str:
        try:
            return [_row(engine, info) for info in engine.containers(label)]
        except EngineError as error:
            return str(error)

    asked = list(dict.fromkeys(engines.values()))
    answers = dict(zip(asked, each(ask, asked), strict=True))
    found: dict[tuple[str, str], Row] = {}
    for name, engine in engines.items():
        answer = answers[engine]
        if isinstance(answer, str):
            findings.append(Finding(name, f"the Docker engine does not answer: {answer}"))
        else:
            found |= {(one.node, one.container): one for one in answer or ()}
    silent = {finding.where for finding in findings}
    rows = []
    for one in containers:
        node, name = one.node.name, one.name
        absent = UNREACHABLE if node in silent else MISSING
        rows.append(found.pop((node, name), Row(node, name, absent)))
    return [*rows, *found.values()], findings


def _row(engine: Engine, info: ContainerInfo) -> Row:
    log = "".join(engine.log(info.id, 1))
    why = "" if info.ready else failure_reason(engine, info)
    return row(info.labels.get(NODE, ""), info.name, info, log, why)
