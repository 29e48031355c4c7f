"""Where every container of a cluster is."""

from __future__ import annotations

from clusters.deployment import Deployment
from clusters.live.engine import Connect, Engine, Rejected, Unreachable, connect, hosts, reach
from clusters.live.failure import reason
from clusters.live.parallel import each
from clusters.live.view import UNREACHABLE, Row, row
from clusters.render.spec import CLUSTER, NODE, in_order
from images.errors import Problem


def status(deployment: Deployment, connect: Connect = connect) -> tuple[list[Row], list[Problem]]:
    """A row a container of the file, then those that are there beside it; and whom one cannot ask.

    A container is looked for by its name and its cluster's label, on its node only.
    """
    label = f"{CLUSTER}={deployment.cluster.name}"
    containers = in_order(deployment)
    engines, problems = reach(hosts(deployment.cluster), connect)

    def ask(engine: Engine) -> dict[str, Row] | str:
        try:
            seen = engine.containers(label)
            logs = {one.name: "".join(engine.log(one.id, 1)) for one in seen}
            return {
                one.name: row(
                    one.labels.get(NODE, ""), one.name, one, logs[one.name], reason(engine, one)
                )
                for one in seen
            }
        except (Unreachable, Rejected) as error:
            return str(error)

    asked = list(dict.fromkeys(engines.values()))
    answers = dict(zip(asked, each(ask, asked), strict=True))
    found: dict[str, Row] = {}
    for name, engine in engines.items():
        answer = answers[engine]
        if isinstance(answer, str):
            problems.append(Problem(name, f"the Docker engine does not answer: {answer}"))
        else:
            found |= answer or {}
    silent = {problem.where for problem in problems}
    rows = [
        Row(one.node.name, one.name, UNREACHABLE)
        if one.node.name in silent
        else found.pop(one.name, row(one.node.name, one.name, None))
        for one in containers
    ]
    return [*rows, *found.values()], problems
