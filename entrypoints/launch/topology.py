"""Where a node stands: its group, the group's sizes, and its ranks."""

from __future__ import annotations

from entrypoints.inputs.recipes import Block, Recipe, Sizes
from entrypoints.inputs.roles import GROUPS, ROLES, Role
from entrypoints.inputs.settings import Settings
from entrypoints.inputs.stack import Platform
from entrypoints.problems import Problem, choose
from entrypoints.record import NamedTuple

# How a group's ranks lie on its nodes.
ONE = "one node"
DATA_PARALLEL = "data parallel"  # each node holds some of the data parallel ranks
EXTERNAL = "external"  # each rank is a server of its own, in a container of its own
NODES = "nodes"  # the one rank's workers spread over the nodes (--nnodes)
RAY = "ray"  # Ray places the workers


class Place(NamedTuple):
    """`sizes` are as given, for the flags; tp, pp, pcp, dp and dp_local are what they come to.

    `dp_rank` is given under EXTERNAL alone. `visible` is the container's number of devices by
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
        """Under EXTERNAL, which of its node's ranks this container serves."""
        return self.start_rank % self.dp_local

    @property
    def leads(self) -> bool:
        """Whether the group's coordinator runs here."""
        return not self.role.follows and not self.dp_rank

    @property
    def each(self) -> int:
        """Devices of one data parallel rank."""
        return self.tp * self.pp * self.pcp

    @property
    def devices(self) -> int:
        """Devices that this container uses; with Ray those of an equal share."""
        if self.layout in (RAY, NODES):
            return -(-self.world // self.nodes)
        return self.each * self.ranks_here

    @property
    def world(self) -> int:
        """Devices of the whole group."""
        return self.each * self.dp


def find(
    role: Role,
    settings: Settings,
    recipe: Recipe | None,
    platform: Platform | None,
    visible: str | None,
    problems: list[Problem],
) -> Place | None:
    """This node's place, None when its group is not known. What is wrong goes to `problems`.

    `visible` is ASCEND_RT_VISIBLE_DEVICES: when given, it says how many devices there are.
    """
    group = _group(settings, role, recipe, problems)
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
    layout = _layout(settings, group, dp, nodes, problems)
    if layout in (NODES, RAY):
        dp_local = dp
    else:
        dp_local = sizes.dp_local or dp // nodes
        _check_ranks(dp, dp_local, nodes, settings, problems)
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
        rank=_rank(settings, role, group, nodes, layout, problems),
        layout=layout,
        dp_rank=settings.dp_rank if layout == EXTERNAL else None,
        visible=len(visible.split(",")) if visible else None,
        pcp=sizes.pcp or 1,
    )
    _check_devices(place, platform, problems)
    return place


def role_of(settings: Settings, problems: list[Problem]) -> Role | None:
    """The role that ROLE names. An absent or unknown one is a problem."""
    role = ROLES.get(settings.role or "")
    if settings.role is None:
        fix = f"set it to one of {', '.join(ROLES)}"
        problems.append(Problem("missing-role", "ROLE", "is not set", fix))
    elif role is None:
        message = f"{settings.role!r} is not a role of this version"
        problems.append(Problem("unknown-role", "ROLE", message, choose(settings.role, ROLES)))
    return role


def _group(
    settings: Settings, role: Role, recipe: Recipe | None, problems: list[Problem]
) -> Role | None:
    """The group's own role; a headless node without GROUP follows a leader, if that is clear."""
    name = settings.group
    multi = [g for g in GROUPS if ROLES[g].networked and not ROLES[g].ray]
    here = [g for g in recipe.groups if g in multi] if recipe else multi
    if role.group:
        if name not in (None, role.group):
            fix = f"leave GROUP out, or set ROLE=headless for a further node of {name}"
            message = f"{name!r} contradicts ROLE={role.name}"
            problems.append(Problem("bad-group", "GROUP", message, fix))
            return None
        name = role.group
    elif name is not None and name not in multi:
        message = f"{name!r} has no headless nodes"
        problems.append(Problem("bad-group", "GROUP", message, choose(name, multi)))
        return None
    elif name is None and recipe and here and here != ["leader"]:
        message = "is not set: the recipe has several groups this headless node can belong to"
        if len(here) == 1:
            message = "is not set for a headless node"
        fix = f"set it to one of {', '.join(here)}"
        problems.append(Problem("missing-group", "GROUP", message, fix))
        return None
    name = name or "leader"
    if recipe and name not in recipe.groups:
        variable = "GROUP" if settings.group and role.headless else "ROLE"
        message = f"the recipe {recipe.name} has no {'headless nodes' if role.headless else name}"
        fix = f"choose another recipe, or one of its groups: {', '.join(recipe.groups)}"
        problems.append(Problem("role-not-in-recipe", variable, message, fix))
        return None
    return ROLES[name]


def _layout(settings: Settings, group: Role, dp: int, nodes: int, problems: list[Problem]) -> str:
    rank = settings.dp_rank
    if rank is not None:
        if group.ray or not group.networked:
            fix = "leave it out, or set ROLE to leader, prefill or decode"
            message = "external data parallel is an option of leader, prefill and decode"
            problems.append(Problem("bad-dp-rank", "DP_RANK", message, fix))
        elif settings.role == "headless":
            fix = f"set ROLE={group.name}: each rank is a server, and none is headless"
            problems.append(Problem("bad-dp-rank", "DP_RANK", "contradicts ROLE=headless", fix))
        elif rank >= dp:
            fix = f"give 0 to {dp - 1}, or a larger DP_SIZE"
            message = f"{rank} is not below DP_SIZE {dp}"
            problems.append(Problem("bad-dp-rank", "DP_RANK", message, fix))
        return EXTERNAL
    if group.ray:
        return RAY
    if dp == 1 and nodes > 1 and group.networked:
        return NODES
    return DATA_PARALLEL if dp > 1 and group.networked else ONE


def _check_ranks(
    dp: int, dp_local: int, nodes: int, settings: Settings, problems: list[Problem]
) -> None:
    if dp_local * nodes != dp:
        message = f"{nodes} nodes with {dp_local} ranks each do not make DP_SIZE {dp}"
        fix = "make NODES times DP_SIZE_LOCAL equal DP_SIZE"
        problems.append(Problem("ranks-mismatch", "DP_SIZE", message, fix))


def _rank(
    settings: Settings, role: Role, group: Role, nodes: int, layout: str, problems: list[Problem]
) -> int:
    def wrong(code: str, message: str, fix: str) -> None:
        problems.append(Problem(code, "NODE_RANK", message, fix))

    rank = settings.node_rank
    if role.ray or layout == EXTERNAL:
        return 0  # Ray numbers its nodes itself; an external rank says where it is by DP_RANK
    if role.headless:
        if rank is None:
            if not any(p.where in ("NODE_RANK", "LWS_WORKER_INDEX") for p in problems):
                wrong("missing-rank", "is not set", f"set it from 1 to {max(nodes - 1, 1)}")
        elif rank == 0:
            wrong("bad-rank", "0 is the leader's", f"set ROLE={group.name} on this node, or 1 up")
        elif rank >= nodes:
            fix = "number the nodes from 0, or set NODES and DP_SIZE for more nodes"
            wrong("bad-rank", f"{rank} is not below the group's number of nodes, {nodes}", fix)
        return rank or 0
    if nodes > 1 and not role.networked:
        fix = "set ROLE=leader here and ROLE=headless on the others, or NODES=1"
        problems.append(Problem("bad-nodes", "NODES", f"is {nodes}, ROLE=single is one node", fix))
    elif rank:
        fix = f"set ROLE=headless and GROUP={group.name} on every further node"
        wrong("bad-rank", f"is {rank}, but ROLE={role.name} is rank 0", fix)
    return 0


def _check_devices(place: Place, platform: Platform | None, problems: list[Problem]) -> None:
    """Each node holds its share: more devices than it has cannot start."""
    if place.visible:
        have, of = place.visible, "ASCEND_RT_VISIBLE_DEVICES"
    elif platform and platform.devices:
        have, of = platform.devices, platform.description
    else:
        return
    need = place.devices
    ranks_here = place.ranks_here
    if place.layout == EXTERNAL and not place.visible:  # the node's other ranks need theirs too
        ranks_here = place.dp_local
        need *= ranks_here
    if need > have:
        ranks = f" x {ranks_here} local ranks" if ranks_here > 1 else ""
        if place.layout in (NODES, RAY):
            ranks = f"{' x dp ' + str(place.dp) if place.dp > 1 else ''} over {place.nodes} nodes"
        pcp = f" x pcp {place.pcp}" if place.pcp > 1 else ""
        sizes = f"tp {place.tp} x pp {place.pp}{pcp}{ranks}"
        message = f"{sizes} need {need} devices on a node, {of} has {have}"
        fix = "make TP_SIZE, PP_SIZE or DP_SIZE_LOCAL smaller, or use more nodes"
        problems.append(Problem("too-few-devices", "TP_SIZE", message, fix))
