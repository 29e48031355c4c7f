"""From variables and arguments to one command: the only place that writes `vllm serve`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import arguments, kv, network, recipes, rules, settings, stack, topology
from .arguments import Flag, Flags, Spelling
from .problems import Advice, Problem, Refused
from .recipes import Recipe
from .roles import Role
from .rules import Ports
from .settings import Settings
from .topology import Place

# vllm: defaults of --port and --data-parallel-rpc-port.
API_PORT = 8000
DP_RPC_PORT = 29550

# A recipe's flags for rank 0 only: a headless node has a start rank of its own, and vLLM refuses
# it a number of API servers (vllm: vllm/entrypoints/cli/serve.py).
_NOT_HEADLESS = ("--api-server-count", "--data-parallel-start-rank")

REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)


class Launch(NamedTuple):
    """What will run. `env` holds only what is set on top of the container's environment.

    The names in `expands` have values that refer to other variables (`$NAME`), as in a shell.
    A port is a number or a list of the first and the last.
    """

    role: str
    title: str
    env: Mapping[str, str]
    expands: frozenset[str]
    argv: Sequence[str]
    ports: Ports
    warnings: Sequence[Advice]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The complete environment to exec with; references see what was set before them."""
        whole = dict(environ)
        for name, value in self.env.items():
            if name in self.expands:
                value = REFERENCE.sub(lambda m: whole.get(m[1] or m[2], ""), value)
            whole[name] = value
        return whole


def plan(
    environ: Mapping[str, str], tokens: Sequence[str] = (), host: network.Host = network.HOST
) -> Launch:
    """The launch of this node. Starts nothing and changes nothing.

    Raises Refused with every problem that could be found.
    """
    problems: list[Problem] = []
    spelling = Spelling.load()
    given = settings.read(environ, problems)
    appended = arguments.parse(tokens, spelling, problems)
    given, appended = _arguments_win(given, appended, problems)

    recipe = None
    if given.recipe:
        try:
            recipe = recipes.load(given.recipe)
        except Refused as refused:
            problems += refused.problems
    elif not given.model:
        fix = "set RECIPE to a name from `recipes`, or MODEL"
        problems.append(Problem("missing-model", "RECIPE", "neither RECIPE nor MODEL is set", fix))

    name = given.ascend_platform
    if not name and recipe and len(recipe.platforms) == 1:
        name = recipe.platforms[0]
    platform = stack.platform(name, problems)
    release = stack.release(given.vllm_ascend_release, problems)
    role = topology.role_of(given, problems)
    place = None
    if role and (recipe or not given.recipe):
        visible = environ.get("ASCEND_RT_VISIBLE_DEVICES")
        place = topology.find(role, given, recipe, platform, visible, problems)
    node = network.find(given, role is not None and role.networked, host, problems)
    if role:
        _check_leader(given, role, problems)
    if place is None or release is None or problems:
        raise Refused(problems)

    flags = arguments.merge(_derived(given, recipe, place, node), _recipe_flags(place))
    made = kv.config(given, recipe, place, release.kv_port)
    if made is not None:
        flags = arguments.merge(flags, [Flag("--kv-transfer-config", (arguments.compact(made),))])
    flags = arguments.merge(flags, appended, spelling.repeatable)

    transfer = None
    if "--kv-transfer-config" in flags:
        raw = arguments.json_of(flags, "--kv-transfer-config")
        transfer = kv.read(raw, problems)
    elif place.group.kv_role:
        fix = "choose a recipe with kv_transfer, or append --kv-transfer-config"
        message = f"ROLE {place.group.name} needs a KV transfer"
        problems.append(Problem("missing-kv-transfer", "RECIPE", message, fix))
    ports = _ports(given, place, platform, release, transfer)
    _check_ports(ports, problems)
    if problems:
        raise Refused(problems)

    env, expands = _environment(environ, platform, place, node)
    model = given.model or (recipe.model if recipe else "")
    return Launch(
        role=place.role.name,
        title=_title(place, recipe, release.name, model),
        env=env,
        expands=expands,
        argv=("vllm", "serve", model, *arguments.render(flags)),
        ports=ports,
        warnings=rules.check(rules.Facts(release, platform, recipe, place, transfer, ports)),
    )


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
    if role.headless and not given.leader_ip and not told:
        fix = "set it to the LOCAL_IP of the group's rank 0"
        problems.append(Problem("missing-leader", "LEADER_IP", "is not set", fix))
    leads = role.networked and not role.headless
    address = given.leader_ip or ""
    numeric = address.replace(".", "").isdigit()
    if leads and numeric and given.local_ip and address != given.local_ip:
        message = f"{address} is not LOCAL_IP {given.local_ip}, but ROLE={role.name} leads"
        fix = f"leave LEADER_IP out here, and set LEADER_IP={given.local_ip} on the other nodes"
        problems.append(Problem("bad-leader", "LEADER_IP", message, fix))


def _derived(given: Settings, recipe: Recipe | None, place: Place, node: network.Node) -> Flags:
    """The flags that follow from variables, sizes and the node's place."""
    names = recipe.served_model_name if recipe else ()
    if given.served_model_name:
        names = (given.served_model_name,)
    spread = place.role.networked and place.dp > 1
    rows: tuple[tuple[str, object, bool], ...] = (
        ("--port", given.port or place.block.port, True),
        ("--headless", True, place.role.headless),
        ("--tensor-parallel-size", place.sizes.tp, True),
        ("--pipeline-parallel-size", place.sizes.pp, True),
        ("--data-parallel-size", place.sizes.dp, True),
        ("--data-parallel-size-local", place.dp_local, spread),
        ("--data-parallel-start-rank", place.start_rank, place.role.headless),
        (
            "--data-parallel-address",
            given.leader_ip if place.role.headless else node.local_ip,
            spread,
        ),
        ("--data-parallel-rpc-port", _rpc_port(given, place), spread),
    )
    flags = [
        Flag(name) if value is True else Flag(name, (str(value),))
        for name, value, wanted in rows
        if wanted and value is not None
    ]
    if names:
        flags.append(Flag("--served-model-name", names))
    return arguments.merge({}, flags)


def _recipe_flags(place: Place) -> list[Flag]:
    drop = _NOT_HEADLESS if place.role.headless else ()
    return [flag for flag in place.block.flags() if flag.name not in drop]


def _rpc_port(given: Settings, place: Place) -> int:
    return given.dp_rpc_port or place.block.dp_rpc_port or DP_RPC_PORT


def _ports(
    given: Settings,
    place: Place,
    platform: stack.Platform | None,
    release: stack.Release,
    transfer: kv.Transfer | None,
) -> dict[str, int | list[int]]:
    """The ports this node listens on.

    kv: only a producer binds (vllm-ascend v0.13.0: mooncake_connector.py:931-945, 1138-1145).
    """
    ports: dict[str, int | list[int]] = {}
    if not place.role.headless:
        ports["api"] = given.port or place.block.port or API_PORT
        if place.role.networked and place.dp > 1:
            ports["dp_rpc"] = _rpc_port(given, place)
    if transfer and transfer.mooncake:
        if transfer.produces:
            per_rank = place.tp * place.pp
            first = (transfer.port or release.kv_port) + place.start_rank * per_rank
            ports["kv"] = [first, first + place.dp_local * per_rank - 1]
        if platform:
            ports["adxl"] = list(release.adxl_ports.of(platform))
    return ports


def _check_ports(ports: Ports, problems: list[Problem]) -> None:
    """Ports of our own must not meet; those of the transport are a matter of warnings."""
    taken = [
        (name, *(port if isinstance(port, list) else (port, port)))
        for name, port in ports.items()
        if name != "adxl"
    ]
    for i, (name, first, last) in enumerate(taken):
        if last > 65535:
            message = f"the {name} ports {first}-{last} go beyond 65535"
            problems.append(Problem("bad-ports", "KV_PORT", message, "set a smaller one"))
        for other, low, high in taken[:i]:
            if first <= high and last >= low:
                message = f"the ports for {other} ({low}) and {name} ({first}) meet"
                fix = "set PORT, DP_RPC_PORT and KV_PORT apart"
                problems.append(Problem("bad-ports", "PORT", message, fix))


def _environment(
    environ: Mapping[str, str],
    platform: stack.Platform | None,
    place: Place,
    node: network.Node,
) -> tuple[dict[str, str], frozenset[str]]:
    """What to set, and which of it refers to other variables.

    A variable that the container already has keeps its value, unless ours extends it.
    VLLM_HOST_IP: vLLM would take the address of the default route (vllm#42023).
    """
    ours: dict[str, str | None] = {**(platform.env if platform else {}), **place.block.env}
    for name in ("HCCL_IF_IP", "VLLM_HOST_IP"):
        ours[name] = node.local_ip or ours.get(name)
    for name in ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME"):
        ours[name] = node.nic or ours.get(name)
    env, expands = {}, set()
    for name, value in ours.items():
        if value is None:
            continue
        refers = {m[1] or m[2] for m in REFERENCE.finditer(value)}
        if name in environ and name not in refers:
            env[name] = environ[name]
        else:
            env[name] = value
            if refers:
                expands.add(name)
    return env, frozenset(expands)


def _title(place: Place, recipe: Recipe | None, release: str, model: str) -> str:
    who = place.role.name
    if place.role.headless:
        who += f" of {place.group.name}"
    rank = f" (node {place.rank} of {place.nodes})" if place.nodes > 1 else ""
    named = f"recipe {recipe.name}" if recipe else "no recipe"
    return f"role {who}{rank}, {named}, release {release}, model {model}"
