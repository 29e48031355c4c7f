"""Select the faults of a cluster: each kind in faults.yaml, for each container, node or link."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

from clusters.deployment import Container, Deployment
from clusters.model import Node
from common.errors import Finding, UserError
from common.yaml import document

KINDS = Path(__file__).with_name("faults.yaml")
CONTAINER, NODE, LINK = "container", "node", "link"


@dataclass(frozen=True)
class FaultKind:
    """`target`: container, node or link. `action`: of injection.py. `seconds`: how long it lasts.

    `roles`: of the containers, empty for all. `every_replica`: not just one container of a kind.
    """

    name: str
    target: str
    action: str
    title: str
    seconds: float = 0.0
    roles: tuple[str, ...] = ()
    every_replica: bool = False


@dataclass(frozen=True)
class Fault:
    """A fault of a container, of its node, or of the link between its node and `other`."""

    kind: FaultKind
    cluster: str
    container: Container
    other: Node | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The container (without the cluster's name), the node, or both nodes."""
        if self.kind.target == CONTAINER:
            return (self.container.name.removeprefix(f"{self.cluster}-"),)
        return (self.container.node.name, *([self.other.name] if self.other else ()))

    @property
    def name(self) -> str:
        role = f" ({self.container.role})" if self.kind.target == CONTAINER else ""
        return f"{' and '.join(self.targets)}{role}: {self.kind.title}"

    @property
    def words(self) -> frozenset[str]:
        """The words that select it with `--fault`."""
        own = (self.container.name, self.container.role) if self.kind.target == CONTAINER else ()
        return frozenset((self.kind.name, *self.targets, *own))


def kinds(path: Path = KINDS) -> tuple[FaultKind, ...]:
    return tuple(
        FaultKind(name=name, **{**one, "roles": tuple(one.get("roles", ()))})
        for name, one in document(path).items()
    )


def faults(deployment: Deployment) -> Iterator[Fault]:
    """Every fault of the deployment.

    Containers are of one kind if they have the same place in the same instance; nodes, if their
    containers are.
    """
    for kind in kinds():
        find = {CONTAINER: _containers, NODE: _nodes, LINK: _links}[kind.target]
        yield from find(kind, deployment)


def select(deployment: Deployment, names: Sequence[str]) -> list[Fault]:
    """The faults that match any of `names`, or all without names.

    A name is a kind, a container, a role or a node, or several of these joined by `:`. Raises
    UserError (64) for each name without a match.
    """
    available = list(faults(deployment))
    if not names:
        return available
    wanted = [frozenset(name.split(":")) for name in names]
    known = sorted({word for fault in available for word in fault.words})
    problems = []
    for name, words in zip(names, wanted, strict=True):
        if not any(words <= fault.words for fault in available):
            unknown = sorted(words - set(known))
            what = f"{unknown[0]!r} is unknown" if unknown else "no fault matches all of these"
            near = get_close_matches(unknown[0], known, n=1) if unknown else []
            fix = "".join(f"did you mean {one}? " for one in near)
            problems.append(Finding(f"--fault {name}", what, f"{fix}known: {', '.join(known)}"))
    if problems:
        raise UserError(problems)
    return [fault for fault in available if any(words <= fault.words for words in wanted)]


def _containers(kind: FaultKind, deployment: Deployment) -> Iterator[Fault]:
    known: set[Hashable] = set()
    for one in deployment.containers:
        if kind.roles and one.role not in kind.roles:
            continue
        same = (*_place(one), one.replica if kind.every_replica else 0)
        if same not in known:
            known.add(same)
            yield Fault(kind, deployment.cluster.name, one)


def _nodes(kind: FaultKind, deployment: Deployment) -> Iterator[Fault]:
    known: set[Hashable] = set()
    for ones in _by_node(deployment).values():
        same = _same(ones)
        if same not in known:
            known.add(same)
            yield Fault(kind, deployment.cluster.name, ones[0])


def _links(kind: FaultKind, deployment: Deployment) -> Iterator[Fault]:
    known: set[Hashable] = set()
    for here, there in combinations(_by_node(deployment).values(), 2):
        same = frozenset((_same(here), _same(there)))
        if same not in known:
            known.add(same)
            yield Fault(kind, deployment.cluster.name, here[0], there[0].node)


def _by_node(deployment: Deployment) -> Mapping[str, list[Container]]:
    found: dict[str, list[Container]] = {}
    for one in deployment.containers:
        found.setdefault(one.node.name, []).append(one)
    return found


def _place(one: Container) -> tuple[str, bool]:
    return one.instance, one.rank > 0


def _same(ones: Sequence[Container]) -> frozenset[tuple[str, bool]]:
    return frozenset(map(_place, ones))
