"""Everything that a launch is made from, read and checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from entrypoints.inputs import arguments, catalogue, recipes, settings, stack
from entrypoints.inputs.arguments import Flag
from entrypoints.inputs.catalogue import Catalogue
from entrypoints.inputs.recipes import Recipe
from entrypoints.inputs.roles import Role
from entrypoints.inputs.settings import Settings
from entrypoints.inputs.stack import Platform, Release
from entrypoints.launch import network, topology
from entrypoints.problems import Problem, Refused
from entrypoints.record import NamedTuple


class Context(NamedTuple):
    """`appended` are the arguments that no variable stands for.

    `catalogue` is what the release's vLLM takes.
    """

    environ: Mapping[str, str]
    settings: Settings
    recipe: Recipe | None
    platform: Platform | None
    release: Release
    role: Role
    address: network.Address
    catalogue: Catalogue
    appended: Sequence[Flag]

    @property
    def model(self) -> str:
        """The model's name or path, empty when none is given."""
        return self.settings.model or (self.recipe.model if self.recipe else "")

    @property
    def at_recipe(self) -> str:
        """How a problem in the recipe says where it is."""
        return self.recipe.name if self.recipe else "RECIPE"


def gather(
    environ: Mapping[str, str],
    tokens: Sequence[str],
    host: network.Host,
    problems: list[Problem],
) -> tuple[Context, topology.Place | None]:
    """Reads variables, arguments, recipe and facts; the place is None for a proxy.

    What is wrong goes to `problems`. Raises Refused with them when a launch cannot be made at all.
    """
    given = settings.read(environ, problems)
    role = topology.role_of(given, problems)
    release = stack.release(given.vllm_ascend_release, problems)
    proxy = role is not None and role.program == "proxy"
    known = catalogue.load(release) if release else None
    appended = arguments.parse(tokens, known.aliases if known and not proxy else {}, problems)
    if known and not proxy:
        appended = [catalogue.resolve(flag, known) for flag in appended]
    given, appended = _arguments_win(given, appended, problems)
    if known and not proxy:
        own = {variable.flag for variable in settings.VARIABLES}
        others = [flag for flag in appended if flag.name not in own]
        catalogue.check_flags(others, "", known, problems)

    recipe = None
    if given.recipe:
        try:
            recipe = recipes.load(given.recipe)
        except Refused as refused:
            problems += refused.problems
    elif not given.model and (role is None or role.program == "vllm"):
        fix = "set RECIPE to a name from `recipes`, or MODEL"
        problems.append(Problem("missing-model", "RECIPE", "neither RECIPE nor MODEL is set", fix))

    name = given.ascend_platform
    if not name and recipe and len(recipe.platforms) == 1:
        name = recipe.platforms[0]
    platform = stack.platform(name, problems)
    place = None
    if role and not proxy and (recipe or not given.recipe):
        visible = environ.get("ASCEND_RT_VISIBLE_DEVICES")
        place = topology.find(role, given, recipe, platform, visible, problems)
    address = network.find(given, role is not None and role.networked, host, problems)
    if role:
        _check_leader(given, role, problems)
    if known:
        catalogue.check_variables(environ, known, problems)
    placed = place is not None or proxy
    if role is None or release is None or known is None or not placed:
        raise Refused(problems)
    context = Context(
        environ, given, recipe, platform, release, role, address, known, tuple(appended)
    )
    return context, place


def _arguments_win(
    given: Settings, appended: list[Flag], problems: list[Problem]
) -> tuple[Settings, list[Flag]]:
    """Settings in which an argument replaces the variable that says the same."""
    by_flag = {v.flag: v for v in settings.VARIABLES if v.flag}
    kept = []
    for flag in appended:
        variable = by_flag.get(flag.name)
        if variable:
            if len(flag.values) != 1 or not flag.values[0]:
                fix = f"write {flag.name} VALUE"
                problems.append(Problem("bad-argument", flag.name, "needs one value", fix))
                continue
            value = settings.checked(variable, flag.values[0], flag.name, problems)
            given = given._replace(**{variable.name.lower(): value})
        if flag.name != "--model":
            kept.append(flag)
    return given, kept


def _check_leader(given: Settings, role: Role, problems: list[Problem]) -> None:
    told = any(p.where in ("LEADER_IP", "LWS_LEADER_ADDRESS") for p in problems)
    if given.leader_ip or told:
        follows = role.follows or bool(given.dp_rank)
    elif role.follows or given.dp_rank:
        fix = "set it to the LOCAL_IP of the group's rank 0"
        problems.append(Problem("missing-leader", "LEADER_IP", "is not set", fix))
        return
    else:
        return
    address = given.leader_ip or ""
    numeric = address.replace(".", "").isdigit()
    leads = role.networked and not follows
    if leads and numeric and given.local_ip and address != given.local_ip:
        message = f"{address} is not LOCAL_IP {given.local_ip}, but ROLE={role.name} leads"
        fix = f"leave LEADER_IP out here, and set LEADER_IP={given.local_ip} on the other nodes"
        problems.append(Problem("bad-leader", "LEADER_IP", message, fix))
