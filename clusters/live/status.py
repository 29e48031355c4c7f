"""Where every container of a cluster is."""

from __future__ import annotations

from clusters.deployment import Deployment
from clusters.live.engine import Connect, Engine, Rejected, Seen, Unreachable, connect, hosts, reach
from clusters.live.failure import reason
from clusters.live.parallel import each
from clusters.live.view import MISSING, UNREACHABLE, Row, row
from clusters.runtime.spec import CLUSTER, NODE, in_order
from common.errors import Finding


def status(deployment: Deployment, connect: Connect = connect) -> tuple[list[Row], list[Finding]]:
    """A row a container of the file, then those that are there beside it; and whom one cannot ask.

    A container is known by its cluster, its node and its name.
    """
    label = f"{CLUSTER}={deployment.cluster.name}"
    containers = in_order(deployment)
    engines, problems = reach(hosts(deployment.cluster), connect)

    def ask(engine: Engine) -> list[Row] | str:
        try:
            return [_row(engine, seen) for seen in engine.containers(label)]
        except (Unreachable, Rejected) as error:
            return str(error)

    asked = list(dict.fromkeys(engines.values()))
    answers = dict(zip(asked, each(ask, asked), strict=True))
    found: dict[tuple[str, str], Row] = {}
    for name, engine in engines.items():
        answer = answers[engine]
        if isinstance(answer, str):
            problems.append(Finding(name, f"the Docker engine does not answer: {answer}"))
        else:
            found |= {(one.node, one.container): one for one in answer or ()}
    silent = {problem.where for problem in problems}
    rows = []
    for one in containers:
        node, name = one.node.name, one.name
        absent = UNREACHABLE if node in silent else MISSING
        rows.append(found.pop((node, name), Row(node, name, absent)))
    return [*rows, *found.values()], problems


def _row(engine: Engine, seen: Seen) -> Row:
    log = "".join(engine.log(seen.id, 1))
    why = "" if seen.ready else reason(engine, seen)
    return row(seen.labels.get(NODE, ""), seen.name, seen, log, why)
