"""The place of a node: its group, the group's sizes, and its ranks."""

from __future__ import annotations

from entrypoints.findings import Finding, did_you_mean
from entrypoints.inputs.recipes import Block, Recipe, Sizes
from entrypoints.inputs.roles import GROUPS, ROLES, Role
from entrypoints.inputs.settings import Settings
from entrypoints.inputs.stack import Platform
from entrypoints.messages import finding
from entrypoints.record import NamedTuple

# How a group's ranks are distributed over its nodes.
ONE = "one node"
DATA_PARALLEL = "data parallel"  # each node holds some of the data parallel ranks
EXTERNAL = "external"  # each rank is a server in its own container
NODES = "nodes"  # the workers of one rank are spread over the nodes (--nnodes)
RAY = "ray"  # Ray places the workers


class Place(NamedTuple):
    """`sizes`: as given, for the flags; tp, pp, pcp, dp and dp_local are the resulting values.

    `dp_rank`: only under EXTERNAL. `visible`: the container's number of devices by
    ASCEND_RT_VISIBLE_DEVICES.
    """

    role: Role
    group: Role
    block: Block
    sizes: Sizes
    tp: int
    pp: int
    dp: int
    dp_local: int
    nodes: int
    rank: int
    layout: str = ONE
    dp_rank: int | None = None
    visible: int | None = None
    pcp: int = 1

    @property
    def start_rank(self) -> int:
        """The first data parallel rank in this container."""
        return self.rank * self.dp_local if self.dp_rank is None else self.dp_rank

    @property
    def ranks_here(self) -> int:
        """Data parallel ranks in this container."""
        return 1 if self.layout == EXTERNAL else self.dp_local

    @property
    def local_rank(self) -> int:
        """Under EXTERNAL, the rank of this container among those of its node."""
        return self.start_rank % self.dp_local

    @property
    def leads(self) -> bool:
        """Whether the group's coordinator runs here."""
        return not self.role.follows and not self.dp_rank

    @property
    def devices_per_rank(self) -> int:
        """Devices of one data parallel rank."""
        return self.tp * self.pp * self.pcp

    @property
    def devices(self) -> int:
        """Devices that this container uses; with Ray, an equal share."""
        if self.layout in (RAY, NODES):
            return -(-self.world // self.nodes)
        return self.devices_per_rank * self.ranks_here

    @property
    def world(self) -> int:
        """Devices of the whole group."""
        return self.devices_per_rank * self.dp


def find_place(
    role: Role,
    settings: Settings,
    recipe: Recipe | None,
    platform: Platform | None,
    visible: str | None,
    findings: list[Finding],
) -> Place | None:
    """This node's place, None when its group is not known. Errors go to `findings`.

    `visible`: ASCEND_RT_VISIBLE_DEVICES, whose length is the number of devices when it is set.
    """
    group = _group(settings, role, recipe, findings)
    if group is None:
        return None
    block = recipe.groups[group.name] if recipe else Block()
    own = Sizes(
        settings.tp_size,
        settings.pp_size,
        settings.dp_size,
        settings.dp_size_local,
        settings.pcp_size,
    )
    sizes = own.over(block.sizes)
    dp = sizes.dp or 1
    nodes = settings.nodes or block.nodes or (dp // sizes.dp_local if sizes.dp_local else 1) or 1
    layout = _layout(settings, group, dp, nodes, bool(sizes.dp_local), findings)
    if layout in (NODES, RAY):
        dp_local = dp
    else:
        dp_local = sizes.dp_local or dp // nodes
        _check_ranks(dp, dp_local, nodes, findings)
    place = Place(
        role=role,
        group=group,
        block=block,
        sizes=sizes,
        tp=sizes.tp or 1,
        pp=sizes.pp or 1,
        dp=dp,
        dp_local=max(dp_local, 1),
        nodes=nodes,
        rank=_rank(settings, role, group, nodes, layout, findings),
        layout=layout,
        dp_rank=settings.dp_rank if layout == EXTERNAL else None,
        visible=len(visible.split(",")) if visible else None,
        pcp=sizes.pcp or 1,
    )
    _check_devices(place, platform, findings)
    return place


def role_of(settings: Settings, findings: list[Finding]) -> Role | None:
    """The role that ROLE names. An absent or unknown one is an error."""
    role = ROLES.get(settings.role or "")
    if settings.role is None:
        findings.append(finding("missing-role", roles=", ".join(ROLES)))
    elif role is None:
        known = did_you_mean(settings.role, ROLES)
        findings.append(finding("unknown-role", role=settings.role, known=known))
    return role


def _group(
    settings: Settings, role: Role, recipe: Recipe | None, findings: list[Finding]
) -> Role | None:
    """The group's own role. A headless node without GROUP follows a leader, if unambiguous."""
    name = settings.group
    multi = [g for g in GROUPS if ROLES[g].networked and not ROLES[g].ray]
    here = [g for g in recipe.groups if g in multi] if recipe else multi
    if role.group:
        if name not in (None, role.group):
            findings.append(finding("bad-group.other-group", group=name, role=role.name))
            return None
        name = role.group
    elif name is not None and name not in multi:
        findings.append(
            finding("bad-group.not-headless", group=name, known=did_you_mean(name, multi))
        )
        return None
    elif name is None and recipe and here and here != ["leader"]:
        message = "missing-group.required" if len(here) == 1 else "missing-group.several"
        findings.append(finding(message, groups=", ".join(here)))
        return None
    name = name or "leader"
    if recipe and name not in recipe.groups:
        variable = "GROUP" if settings.group and role.headless else "ROLE"
        lacks, groups = "headless nodes" if role.headless else name, ", ".join(recipe.groups)
        named = {"variable": variable, "recipe": recipe.name, "group": lacks, "groups": groups}
        findings.append(finding("role-not-in-recipe", **named))
        return None
    return ROLES[name]


def _layout(
    settings: Settings, group: Role, dp: int, nodes: int, local: bool, findings: list[Finding]
) -> str:
    rank = settings.dp_rank
    if rank is not None:
        if group.ray or not group.networked:
            findings.append(finding("bad-dp-rank.not-external"))
        elif settings.role == "headless":
            findings.append(finding("bad-dp-rank.not-a-server", role=group.name))
        elif rank >= dp:
            findings.append(finding("bad-dp-rank.beyond-dp", rank=rank, dp=dp, last=dp - 1))
        return EXTERNAL
    if group.ray:
        return RAY
    if dp == 1 and nodes > 1 and group.networked:
        return NODES
    return DATA_PARALLEL if (dp > 1 or local) and group.networked else ONE


def _check_ranks(dp: int, dp_local: int, nodes: int, findings: list[Finding]) -> None:
    if dp_local * nodes != dp:
        findings.append(finding("ranks-mismatch", nodes=nodes, local=dp_local, dp=dp))


def _rank(
    settings: Settings, role: Role, group: Role, nodes: int, layout: str, findings: list[Finding]
) -> int:
    rank = settings.node_rank
    if role.ray or layout == EXTERNAL:
        return 0  # Ray numbers its nodes itself; DP_RANK gives the place of an external rank
    if role.headless:
        if rank is None:
            if not any(one.where in ("NODE_RANK", "LWS_WORKER_INDEX") for one in findings):
                findings.append(finding("missing-rank", last=max(nodes - 1, 1)))
        elif rank == 0:
            findings.append(finding("bad-rank.rank-of-leader", role=group.name))
        elif rank >= nodes:
            findings.append(finding("bad-rank.beyond-nodes", rank=rank, nodes=nodes))
        return rank or 0
    if nodes > 1 and not role.networked:
        findings.append(finding("bad-nodes", nodes=nodes))
    elif rank:
        findings.append(finding("bad-rank.not-rank-0", rank=rank, role=role.name, group=group.name))
    return 0


def _check_devices(place: Place, platform: Platform | None, findings: list[Finding]) -> None:
    """Report a node that needs more devices than it has."""
    if place.visible:
        have, owner = place.visible, "ASCEND_RT_VISIBLE_DEVICES"
    elif platform and platform.devices:
        have, owner = platform.devices, platform.description
    else:
        return
    need = place.devices
    ranks_here = place.ranks_here
    if place.layout == EXTERNAL and not place.visible:  # the node's other ranks need devices, too
        ranks_here = place.dp_local
        need *= ranks_here
    if need > have:
        ranks = f" x {ranks_here} local ranks" if ranks_here > 1 else ""
        if place.layout in (NODES, RAY):
            ranks = f"{' x dp ' + str(place.dp) if place.dp > 1 else ''} over {place.nodes} nodes"
        pcp = f" x pcp {place.pcp}" if place.pcp > 1 else ""
        sizes = f"tp {place.tp} x pp {place.pp}{pcp}{ranks}"
        findings.append(finding("too-few-devices", sizes=sizes, need=need, owner=owner, have=have))
