"""Which faults a cluster is put to: each kind of faults.yaml, for one of each kind of container."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

import yaml

from clusters.deployment import Container, Deployment
from clusters.model import Node
from common.errors import Finding, UserError

KINDS = Path(__file__).with_name("faults.yaml")
CONTAINER, NODE, LINK = "container", "node", "link"


@dataclass(frozen=True)
class Kind:
    """`to`: container, node or link. `does`: the deed. `seconds`: how long it lasts, 0: at once.

    `roles`: of the containers it is done to; empty: of all. `each`: to those of every replica.
    """

    name: str
    to: str
    does: str
    says: str
    seconds: float = 0.0
    roles: tuple[str, ...] = ()
    each: bool = False


@dataclass(frozen=True)
class Fault:
    """One thing that is done: to a container, to its node, or to the link between its node and
    `other`."""

    kind: Kind
    cluster: str
    container: Container
    other: Node | None = None

    @property
    def whom(self) -> tuple[str, ...]:
        """The container without the cluster's name, the node, or both nodes."""
        if self.kind.to == CONTAINER:
            return (self.container.name.removeprefix(f"{self.cluster}-"),)
        return (self.container.node.name, *([self.other.name] if self.other else ()))

    @property
    def name(self) -> str:
        role = f" ({self.container.role})" if self.kind.to == CONTAINER else ""
        return f"{' and '.join(self.whom)}{role}: {self.kind.says}"

    @property
    def words(self) -> frozenset[str]:
        """By which a user chooses it."""
        own = (self.container.name, self.container.role) if self.kind.to == CONTAINER else ()
        return frozenset((self.kind.name, *self.whom, *own))


def kinds(path: Path = KINDS) -> tuple[Kind, ...]:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(
        Kind(name=name, **{**one, "roles": tuple(one.get("roles", ()))})
        for name, one in raw.items()
    )


def faults(deployment: Deployment) -> Iterator[Fault]:
    """All of them. Containers are of one kind when they have the same place in the same instance,
    and nodes when what runs on them is."""
    for kind in kinds():
        find = {CONTAINER: _containers, NODE: _nodes, LINK: _links}[kind.to]
        yield from find(kind, deployment)


def chosen(deployment: Deployment, names: Sequence[str]) -> list[Fault]:
    """All faults, or those that one of `names` means: a kind, a container, a role or a node, or
    several of these with `:` between them. Raises UserError (64) for names that mean none.
    """
    every = list(faults(deployment))
    if not names:
        return every
    wanted = [frozenset(name.split(":")) for name in names]
    known = sorted({word for fault in every for word in fault.words})
    problems = []
    for name, words in zip(names, wanted, strict=True):
        if not any(words <= fault.words for fault in every):
            unknown = sorted(words - set(known))
            what = f"{unknown[0]!r} is unknown" if unknown else "no fault is all of these"
            near = get_close_matches(unknown[0], known, n=1) if unknown else []
            fix = "".join(f"did you mean {one}? " for one in near)
            problems.append(Finding(f"--fault {name}", what, f"{fix}known: {', '.join(known)}"))
    if problems:
        raise UserError(problems)
    return [fault for fault in every if any(words <= fault.words for words in wanted)]


def _containers(kind: Kind, deployment: Deployment) -> Iterator[Fault]:
    known: set[Hashable] = set()
    for one in deployment.containers:
        if kind.roles and one.role not in kind.roles:
            continue
        same = (*_place(one), one.replica if kind.each else 0)
        if same not in known:
            known.add(same)
            yield Fault(kind, deployment.cluster.name, one)


def _nodes(kind: Kind, deployment: Deployment) -> Iterator[Fault]:
    known: set[Hashable] = set()
    for ones in _by_node(deployment).values():
        same = _same(ones)
        if same not in known:
            known.add(same)
            yield Fault(kind, deployment.cluster.name, ones[0])


def _links(kind: Kind, deployment: Deployment) -> Iterator[Fault]:
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
