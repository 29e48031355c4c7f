"""The inputs of a launch, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from entrypoints.findings import Finding, Refused
from entrypoints.inputs import arguments, catalogue, recipes, settings, stack
from entrypoints.inputs.arguments import Flag
from entrypoints.inputs.catalogue import Catalogue
from entrypoints.inputs.recipes import Recipe
from entrypoints.inputs.roles import Role
from entrypoints.inputs.settings import Settings
from entrypoints.inputs.stack import Platform, Release
from entrypoints.launch import network, topology
from entrypoints.messages import finding
from entrypoints.record import NamedTuple


class Context(NamedTuple):
    """`appended`: arguments that no variable replaces. `catalogue`: what the release accepts."""

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
        """The `where` of a finding in the recipe."""
        return self.recipe.name if self.recipe else "RECIPE"


def gather(
    environ: Mapping[str, str], tokens: Sequence[str], host: network.Host, findings: list[Finding]
) -> tuple[Context, topology.Place | None]:
    """Read variables, arguments, recipe and facts; the place is None for a proxy.

    Errors go to `findings`. Raises Refused with them when no launch can be planned at all.
    """
    given = settings.read(environ, findings)
    role = topology.role_of(given, findings)
    release = stack.release(given.vllm_ascend_release, findings)
    proxy = role is not None and role.program == "proxy"
    known = catalogue.load(release) if release else None
    appended = arguments.parse(tokens, known.aliases if known and not proxy else {}, findings)
    if known and not proxy:
        appended = [catalogue.resolve(flag, known) for flag in appended]
    given, appended = _arguments_win(given, appended, findings)
    if known and not proxy:
        own = {variable.flag for variable in settings.VARIABLES}
        others = [flag for flag in appended if flag.name not in own]
        catalogue.check_flags(others, "", known, findings)

    recipe = None
    if given.recipe:
        try:
            recipe = recipes.load(given.recipe).on(release.facts if release else "")
        except Refused as refused:
            findings += refused.findings
    elif not given.model and (role is None or role.program == "vllm"):
        findings.append(finding("missing-model"))

    name = given.ascend_platform
    if not name and recipe and len(recipe.platforms) == 1:
        name = recipe.platforms[0]
    platform = stack.platform(name, findings)
    place = None
    if role and not proxy and (recipe or not given.recipe):
        visible = environ.get("ASCEND_RT_VISIBLE_DEVICES")
        place = topology.find_place(role, given, recipe, platform, visible, findings)
    address = network.find_address(given, role is not None and role.networked, host, findings)
    if role:
        _check_leader(given, role, findings)
    if known:
        catalogue.check_variables(environ, known, findings)
    placed = place is not None or proxy
    if role is None or release is None or known is None or not placed:
        raise Refused(findings)
    context = Context(
        environ, given, recipe, platform, release, role, address, known, tuple(appended)
    )
    return context, place


def _arguments_win(
    given: Settings, appended: list[Flag], findings: list[Finding]
) -> tuple[Settings, list[Flag]]:
    """Settings in which an argument replaces the variable that sets the same."""
    by_flag = {v.flag: v for v in settings.VARIABLES if v.flag}
    kept = []
    for flag in appended:
        variable = by_flag.get(flag.name)
        if variable:
            if len(flag.values) != 1 or not flag.values[0]:
                findings.append(finding("bad-argument.not-one-value", flag=flag.name))
                continue
            value = settings.checked(variable, flag.values[0], flag.name, findings)
            given = given._replace(**{variable.name.lower(): value})
        if flag.name != "--model":
            kept.append(flag)
    return given, kept


def _check_leader(given: Settings, role: Role, findings: list[Finding]) -> None:
    reported = any(one.where in ("LEADER_IP", "LWS_LEADER_ADDRESS") for one in findings)
    if given.leader_ip or reported:
        follows = role.follows or bool(given.dp_rank)
    elif role.follows or given.dp_rank:
        findings.append(finding("missing-leader"))
        return
    else:
        return
    address = given.leader_ip or ""
    numeric = address.replace(".", "").isdigit()
    leads = role.networked and not follows
    if leads and numeric and given.local_ip and address != given.local_ip:
        findings.append(
            finding("bad-leader", address=address, local_ip=given.local_ip, role=role.name)
        )
