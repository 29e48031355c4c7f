"""What `invoke cluster.diff` prints: the changes from one cluster to another, and the restarts that
they need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clusters.compile.addresses import PlacedNames
from clusters.deployment import Container, Deployment
from clusters.model import Cluster
from clusters.ranges import compact
from clusters.show.containers import (
    address,
    commands,
    environment,
    identity,
    mask_document,
    variables,
)
from clusters.show.output import HEAD, LABEL, NEW, OLD, PLAIN, Line
from entrypoints import printing

CHANGED = "changed"
ADDED = "new"
REMOVED = "gone"

# The parts of a row, in the order in which they are printed.
PARTS = ("", "variables", "arguments", "environment", "command")

# The scopes of a restart.
CONTAINER = "container"
GROUP = "group"
PROXY = "proxy"


@dataclass(frozen=True)
class Row:
    """One property of a container. `raw` is compared, `shown` is printed."""

    part: str
    name: str
    raw: str
    shown: str


@dataclass(frozen=True)
class Change:
    """A changed property: `name` in `part`. None for a missing value; secrets are masked."""

    part: str
    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Difference:
    """The changes of one container. `kind`: changed, new or gone."""

    container: Container
    kind: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Restart:
    """A required restart. `scope`: container, group or proxy."""

    scope: str
    name: str
    containers: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The differences by container, and the restarts that they need."""

    differences: tuple[Difference, ...]
    restarts: tuple[Restart, ...]

    @property
    def same(self) -> bool:
        return not self.differences


def compare(old: Deployment, new: Deployment) -> Comparison:
    """Compare containers of the same instance, replica and rank."""
    before = {_place(one): one for one in old.containers}
    after = {_place(one): one for one in new.containers}
    was, now = PlacedNames(old.cluster), PlacedNames(new.cluster)
    differences = []
    for place, one in after.items():
        if place not in before:
            differences.append(Difference(one, ADDED))
            continue
        rows = list(_rows(old.cluster, before[place], was)), list(_rows(new.cluster, one, now))
        if changes := tuple(_changes(*rows)):
            differences.append(Difference(one, CHANGED, changes))
    differences += [Difference(one, REMOVED) for place, one in before.items() if place not in after]
    touched = {_place(one.container) for one in differences}
    return Comparison(tuple(differences), tuple(_restarts(new, touched, set(before))))


Place = tuple[str, int, int]


def _place(container: Container) -> Place:
    return container.instance, container.replica, container.rank


def _restarts(new: Deployment, touched: set[Place], before: set[Place]) -> Iterator[Restart]:
    """A change in one container restarts its group: the ranks cannot reconnect."""
    replicas = {place[:2] for place in touched}
    for group in new.groups:
        ran = any(_place(one) in before for one in group.containers)
        if ran and (group.instance, group.replica) in replicas:
            names = tuple(one.name for one in group.containers)
            scope = (GROUP, group.name) if len(names) > 1 else (CONTAINER, names[0])
            yield Restart(*scope, names)
    proxy = new.proxy
    if proxy and _place(proxy) in touched & before:
        yield Restart(PROXY, proxy.name, (proxy.name,))


# ---- what is compared ----------------------------------------------------------------------------


def _rows(cluster: Cluster, container: Container, placed: PlacedNames) -> Iterator[Row]:
    """All properties with which a container starts."""
    node = container.node
    facts = {
        "container": container.name,
        "node": node.name,
        "address": address(node),
        "platform": node.platform,
        "image": container.image,
        "NPUs": compact(container.devices),
    }
    yield from (Row("", name, value, value) for name, value in facts.items() if value)
    yield from _run(cluster, container)
    named = (
        ("variables", container.env, variables(container)),
        ("environment", environment(container), printing.masked_env(environment(container))),
    )
    for part, raw, shown in named:
        for name, value in shown.items():
            yield Row(part, name, placed.text(raw.get(name, value)), placed.text(value))
    yield from _words("arguments", container.arguments, placed)
    for argv in commands(container):
        yield from _words("command", argv, placed)
    if not commands(container):
        yield Row("command", "refused", "", "")


def _run(cluster: Cluster, container: Container) -> Iterator[Row]:
    """The settings of the cluster; a proxy gets no weights and no shared memory."""
    values: dict[str, Any] = {"run.restart": cluster.run.restart}
    if container.role != "proxy":
        values["run.shm"] = f"{cluster.run.shm_gib}g"
        values |= {f"weights.{one.mount}": asdict(one) for one in cluster.volumes}
    for one in cluster.secrets:
        if one.variable in container.secrets:
            values[f"secrets.{one.variable}"] = asdict(one)
    for name, value in values.items():
        raw = value if isinstance(value, str) else json.dumps(value)
        yield Row("", name, raw, raw)
    if container.node.placed:
        for name, value in asdict(cluster.kubernetes).items():
            shown = json.dumps(mask_document(value))
            yield Row("", f"kubernetes.{name}", json.dumps(value), shown)
    for word in cluster.options:
        yield Row("", "options", word, _masked_word(word))


def _words(part: str, argv: Sequence[str], placed: PlacedNames) -> Iterator[Row]:
    """A row for each flag with its values."""
    pairs = zip(
        printing.command_lines(argv), printing.command_lines(printing.masked(argv)), strict=True
    )
    for raw, shown in pairs:
        name, _, value = shown.partition(" ")
        yield Row(part, name, placed.text(raw), placed.text(value))


def _masked_word(word: str) -> str:
    """`-e NAME=value` or `NAME=value` without the value of a secret."""
    name, sign, _ = word.partition("=")
    return f"{name}={printing.MASK}" if sign and printing.is_secret(name) else word


def _changes(old: Sequence[Row], new: Sequence[Row]) -> Iterator[Change]:
    """The rows in only one of both; two rows with one name are one change."""
    lost, won = _only_in(old, new), _only_in(new, old)
    for key in sorted(dict.fromkeys([*lost, *won]), key=lambda key: PARTS.index(key[0])):
        was, now = lost.get(key, []), won.get(key, [])
        if len(was) == len(now) == 1:
            yield Change(*key, was[0].shown, now[0].shown)
        else:
            yield from (Change(*key, row.shown, None) for row in was)
            yield from (Change(*key, None, row.shown) for row in now)


def _only_in(rows: Iterable[Row], others: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    known = {(row.part, row.name, row.raw) for row in others}
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if (row.part, row.name, row.raw) not in known:
            found.setdefault((row.part, row.name), []).append(row)
    return found


# ---- text ----------------------------------------------------------------------------------------


def text(found: Comparison) -> Iterator[Line]:
    """The containers with the same changes together, then the actions."""
    if found.same:
        yield Line("nothing changed")
        return
    alike: dict[tuple[str, str, tuple[Change, ...]], list[Container]] = {}
    for one in found.differences:
        key = (one.kind, one.container.instance, one.changes)
        alike.setdefault(key, []).append(one.container)
    for (kind, instance, changes), containers in alike.items():
        nodes = (f" on {one.node.name}" if one.node.name else "" for one in containers)
        who = ", ".join(f"{one.name}{on}" for one, on in zip(containers, nodes, strict=True))
        yield Line(f"{instance}: {kind}: {who}", style=HEAD)
        yield from _change_lines(changes)
        yield Line("")
    yield from _actions(found)


def _actions(found: Comparison) -> Iterator[Line]:
    for verb, kind in (("stop", REMOVED), ("start", ADDED)):
        names = [one.container.name for one in found.differences if one.kind == kind]
        if names:
            yield Line(f"{verb}: {', '.join(names)}", style=HEAD)
    for one in found.restarts:
        members = f": {', '.join(one.containers)}" if one.scope == GROUP else ""
        what = f"only {one.scope}" if one.scope != GROUP else "the whole group"
        yield Line(f"restart {what} {one.name}{members}", style=HEAD)


def _change_lines(changes: Iterable[Change]) -> Iterator[Line]:
    part = ""
    for one in changes:
        if one.part != part:
            part = one.part
            yield Line(part, 1, LABEL)
        for sign, value, style in (("-", one.old, OLD), ("+", one.new, NEW)):
            if value is not None:
                yield Line(f"{sign} {_assigned(one, value)}", 2 if part else 1, style)
        if one.old == one.new:
            yield Line("(a secret with another value)", 2, PLAIN)


def _assigned(change: Change, value: str) -> str:
    if change.part in ("variables", "environment"):
        return f"{change.name}={printing.quote(value)}"
    return f"{change.name} {value}" if change.part else f"{change.name}: {value}"


# ---- data ----------------------------------------------------------------------------------------


def data(found: Comparison) -> dict[str, Any]:
    """The comparison as data."""
    return {
        "same": found.same,
        "containers": [
            {
                **identity(one.container),
                "kind": one.kind,
                "changes": [asdict(change) for change in one.changes],
            }
            for one in found.differences
        ],
        "restarts": [asdict(one) for one in found.restarts],
    }
