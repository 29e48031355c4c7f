"""Groups servers into instances, and assigns them to machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from clusters.importing import servers as reading
from clusters.importing.scripts import Script, is_unfilled
from clusters.importing.servers import Server, is_address, is_node_local, reference_name

# Addresses for documentation (RFC 5737) replace those that a script leaves open.
STAND_IN = IPv4Address("192.0.2.1")
NIC = "eth0"
_NO_NIC = re.compile(r"[$<{].*|.{16,}|.*(?:nic|if_?name|interface|your).*", re.IGNORECASE)


@dataclass(frozen=True)
class Machine:
    """A node: its name in the cluster file, its address, and its interface, empty if unknown."""

    name: str
    address: str
    nic: str = ""


@dataclass(frozen=True)
class Member:
    """A server on a machine; None when its script is not given."""

    machine: Machine
    server: Server | None


@dataclass(frozen=True)
class OpenValue:
    """A value that the scripts leave open, and the placeholder that `stands` in its place."""

    name: str
    where: str
    stands: str


@dataclass(frozen=True)
class Group:
    """The servers of one instance, rank 0 first."""

    name: str
    role: str
    members: tuple[Member, ...]
    external: bool = False
    local: int = 1  # external: ranks on a node

    @property
    def leader(self) -> Server:
        return next(member.server for member in self.members if member.server)

    @property
    def servers(self) -> list[Server]:
        return [member.server for member in self.members if member.server]

    @property
    def machines(self) -> list[Machine]:
        """The machines as an instance names them: once, also with several external ranks."""
        return [member.machine for member in self.members[:: self.local if self.external else 1]]


@dataclass(frozen=True)
class Layout:
    machines: tuple[Machine, ...]
    groups: tuple[Group, ...]
    open: tuple[OpenValue, ...]


_Placed = tuple[Server, Machine]


def build_layout(servers: Sequence[Server], workers: Sequence[Server] = ()) -> Layout:
    """The groups and machines of one deployment. `workers`: of a Ray cluster."""
    return _LayoutBuilder(servers, workers).layout()


class _LayoutBuilder:
    def __init__(self, servers: Sequence[Server], workers: Sequence[Server]) -> None:
        self.servers = servers
        self.workers = workers
        self.machines: dict[str, Machine] = {}
        self.known: dict[tuple[str, str], str] = {}  # an identity of a machine -> its name
        self.open: dict[tuple[str, str], OpenValue] = {}

    def layout(self) -> Layout:
        grouped = _groups(self.servers)
        if self.workers:
            ray = [servers for servers in grouped if servers[0].ray] or grouped[:1]
            ray[0].extend(self.workers)
        taken = {one.own for one in self.servers if is_address(one.own)}
        self.free = (str(STAND_IN + i) for i in range(250) if str(STAND_IN + i) not in taken)
        placed = [[(one, self.machine(one)) for one in servers] for servers in grouped]
        roles = [_role(servers) for servers in grouped]
        by_name = {
            server.own: machine.address
            for pairs in placed
            for server, machine in pairs
            if server.own and not is_unfilled(server.own) and not is_node_local(server.own)
        }
        groups = []
        for name, role, pairs in zip(_names(roles), roles, placed, strict=True):
            group = self.complete_group(name, role, pairs)
            leader = group.members[0].machine
            filled = tuple(
                self.fill(member, leader, by_name) if member.server else member
                for member in group.members
            )
            groups.append(replace(group, members=filled))
        return Layout(tuple(self.machines.values()), tuple(groups), tuple(self.open.values()))

    def machine(self, server: Server) -> Machine:
        """The machine of a server: a known one, or a new one."""
        places = list(_identities(server))
        name = next((self.known[one] for one in places if one in self.known), "")
        if not name:
            found = next((text for kind, text in places if kind == "address"), "")
            name = self.add_machine(found or next(self.free))
            if not found:
                what = reference_name(server.own) or "the address of its node"
                self.note_open(what, server.script, self.machines[name].address)
        self.known.update((one, name) for one in places if one not in self.known)
        if server.nic or any(name in server.env for name in reading.INTERFACES):
            nic = NIC if _NO_NIC.fullmatch(server.nic) or is_unfilled(server.nic) else server.nic
            if nic != server.nic:
                what = reference_name(server.nic) or "the interface of its node"
                self.note_open(what, server.script, nic)
            machine = self.machines[name]
            self.machines[name] = replace(machine, nic=machine.nic or nic)
        return self.machines[name]

    def add_machine(self, address: str, nic: str = "") -> str:
        name = f"node{len(self.machines)}"
        self.machines[name] = Machine(name, address, nic)
        return name

    def note_open(self, name: str, script: Script, stands: str) -> None:
        self.open.setdefault((name, script.block), OpenValue(name, script.at, stands))

    def fill(self, member: Member, leader: Machine, by_name: Mapping[str, str]) -> Member:
        server, machine = member.server, self.machines[member.machine.name]
        assert server is not None
        values = {**by_name}
        if server.leads_at and not is_address(server.leads_at):
            values[server.leads_at] = leader.address
        if server.own and not is_address(server.own):
            values[server.own] = machine.address
        if server.nic:
            values[server.nic] = machine.nic
        for name, stands in server.placeholders.items():
            self.note_open(name, server.script, stands)
        for name in server.script.unknown:
            spelled = {f"${name}", f"${{{name}}}"} & values.keys()
            if name not in server.placeholders and not spelled and not name.startswith(("$(", "`")):
                self.note_open(name, server.script, f"${name}")
        filled = reading.fill(server, values, machine.address, machine.nic)
        return replace(member, server=filled)

    def complete_group(self, name: str, role: str, pairs: Sequence[_Placed]) -> Group:
        """The group, with members for the nodes without a script."""
        first, on = pairs[0]
        numbers, local = first.numbers, 1
        count = max(_nodes(numbers), len(pairs))
        if first.external:
            local = sum(machine.name == on.name for _, machine in pairs)
            count = max(numbers.get("dp", 1), max(one.rank for one, _ in pairs) + 1)
        given = {one.place: (one, machine) for one, machine in pairs}
        if len(given) < len(pairs) or max(given) >= count:
            given = dict(enumerate(pairs))
        members = []
        for place in range(count):
            server, machine = given.get(place, (None, None))
            machine = machine or self.missing_machine(name, place // local, first)
            members.append(Member(machine, server))
        return Group(name, role, tuple(members), first.external, local)

    def missing_machine(self, name: str, rank: int, one: Server) -> Machine:
        """The machine of a node without a script."""
        what = f"the node of rank {rank} of {name}, whose script is not given"
        known = ("address", one.leads_at) if not rank and is_address(one.leads_at) else ("", what)
        if known not in self.known:
            nic = next(iter(self.machines.values())).nic
            address = known[1] if known[0] else next(self.free)
            self.known[known] = self.add_machine(address, nic)
            self.open[what, ""] = OpenValue(what, one.script.at, address)
        return self.machines[self.known[known]]


def _identities(server: Server) -> Iterator[tuple[str, str]]:
    """The identities of a server's machine: an address, a name for it, its script."""
    own, to = server.own, server.leads_at
    named = own and not is_unfilled(own) and not is_node_local(own)
    leads = not server.follows and server.rank == 0
    if is_address(own):
        yield "address", own
        return
    if not named:
        yield "block", server.script.block
    if leads and is_address(to):
        yield "address", to
    elif named:
        yield "name", reference_name(own)
    elif leads and not own and to and not is_unfilled(to):
        yield "name", reference_name(to)


def _nodes(numbers: Mapping[str, int]) -> int:
    nodes = numbers.get("nnodes", 1)
    if numbers.get("dp_local"):
        nodes = max(nodes, numbers.get("dp", 1) // numbers["dp_local"])
    return nodes


def _groups(servers: Sequence[Server]) -> list[list[Server]]:
    """The servers of each group, rank 0 first."""
    groups: list[list[Server]] = []
    for one in servers:
        same = [g for g in groups if one.external and g[0].external and _same_group(g, one)]
        if same:
            same[0].append(one)
        elif one.external or not one.follows:
            groups.append([one])
    for one in servers:
        if not one.follows or one.external:
            continue
        fitting = [g for g in groups if not g[0].external and _may_follow(g, one)]
        exact = [g for g in fitting if one.leads_at in (g[0].own, g[0].leads_at) and one.leads_at]
        chosen = exact or fitting
        if chosen:
            chosen[0].append(one)
        else:
            groups.append([one])
    return [sorted(those, key=lambda server: server.rank) for those in groups]


def _same_group(group: Sequence[Server], one: Server) -> bool:
    """Whether a rank belongs to an external group."""
    first = group[0]
    at = {first.leads_at, one.leads_at}
    return (
        first.side == one.side
        and first.numbers.get("dp") == one.numbers.get("dp")
        and first.numbers.get("rpc_port") == one.numbers.get("rpc_port")
        and first.model == one.model
        and one.rank not in [other.rank for other in group]
        and (len(at) == 1 or any(map(is_unfilled, at)))
    )


def _may_follow(group: Sequence[Server], one: Server) -> bool:
    """Whether a node may be a worker of this group."""
    first = group[0]
    return (
        not first.follows
        and first.side == one.side
        and first.numbers.get("dp", 1) == one.numbers.get("dp", 1)
        and first.numbers.get("nnodes") == one.numbers.get("nnodes")
        and one.rank not in [other.rank for other in group]
    )


def _role(those: Sequence[Server]) -> str:
    first = those[0]
    if first.side:
        return first.side
    if first.ray or any(one.worker for one in those):
        return "ray-head"
    numbers = first.numbers
    nodes = max(len(those), _nodes(numbers))
    placed = {*reading.LEADERS} & first.flags.keys() or {"rpc_port", "start_rank"} & numbers.keys()
    together = numbers.get("dp", 1) > 1 and placed
    return "leader" if nodes > 1 or together or first.external else "single"


def _names(roles: Iterable[str]) -> list[str]:
    base = ["serve" if role in ("single", "leader", "ray-head") else role for role in roles]
    return [
        name if base.count(name) == 1 else f"{name}-{base[:i].count(name) + 1}"
        for i, name in enumerate(base)
    ]
