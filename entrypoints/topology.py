"""Where a node stands: its group, the group's sizes, and its ranks."""

from __future__ import annotations

from typing import NamedTuple

from .problems import Problem, choose
from .recipes import Block, Recipe, Sizes
from .roles import GROUPS, ROLES, Role
from .settings import Settings
from .stack import Platform


class Place(NamedTuple):
    """`sizes` are as given, for the flags; tp, pp, dp and dp_local are what they come to."""

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

    @property
    def start_rank(self) -> int:
        """The first data parallel rank on this node."""
        return self.rank * self.dp_local


def find(
    role: Role,
    settings: Settings,
    recipe: Recipe | None,
    platform: Platform | None,
    visible: str | None,
    problems: list[Problem],
) -> Place | None:
    """This node's place, None when a problem leaves it open.

    `visible` is ASCEND_RT_VISIBLE_DEVICES: when given, it says how many devices there are.
    """
    before = len(problems)
    group = _group(settings, role, recipe, problems)
    if group is None:
        return None
    block = recipe.groups[group.name] if recipe else Block()
    own = Sizes(settings.tp_size, settings.pp_size, settings.dp_size, settings.dp_size_local)
    sizes = own.over(block.sizes)
    dp = sizes.dp or 1
    nodes = settings.nodes or block.nodes or (dp // sizes.dp_local if sizes.dp_local else 1) or 1
    dp_local = sizes.dp_local or dp // nodes
    if dp_local * nodes != dp:
        message = f"{nodes} nodes with {dp_local} ranks each do not make DP_SIZE {dp}"
        fix = "make NODES times DP_SIZE_LOCAL equal DP_SIZE"
        problems.append(Problem("ranks-mismatch", "DP_SIZE", message, fix))
    place = Place(
        role=role,
        group=group,
        block=block,
        sizes=sizes,
        tp=sizes.tp or 1,
        pp=sizes.pp or 1,
        dp=dp,
        dp_local=dp_local,
        nodes=nodes,
        rank=_rank(settings, role, group, nodes, problems),
    )
    _check_devices(place, platform, visible, problems)
    return place if len(problems) == before else None


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
    multi = [g for g in GROUPS if ROLES[g].networked]
    here = [g for g in recipe.groups if g in multi] if recipe else multi
    if not role.headless:
        if name not in (None, role.name):
            fix = f"leave GROUP out, or set ROLE=headless for a further node of {name}"
            message = f"{name!r} contradicts ROLE={role.name}"
            problems.append(Problem("bad-group", "GROUP", message, fix))
            return None
        name = role.name
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


def _rank(settings: Settings, role: Role, group: Role, nodes: int, problems: list[Problem]) -> int:
    def wrong(code: str, message: str, fix: str) -> None:
        problems.append(Problem(code, "NODE_RANK", message, fix))

    rank = settings.node_rank
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


def _check_devices(
    place: Place, platform: Platform | None, visible: str | None, problems: list[Problem]
) -> None:
    if visible:
        have, of = len(visible.split(",")), "ASCEND_RT_VISIBLE_DEVICES"
    elif platform:
        have, of = platform.devices, platform.description
    else:
        return
    need = place.tp * place.pp * place.dp_local
    if need > have:
        message = (
            f"tp {place.tp} x pp {place.pp} x {place.dp_local} local ranks need {need} devices,"
            f" {of} has {have}"
        )
        fix = "make TP_SIZE, PP_SIZE or DP_SIZE_LOCAL smaller, or use more nodes"
        problems.append(Problem("too-few-devices", "TP_SIZE", message, fix))
