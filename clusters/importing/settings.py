"""The settings of each server, and functions that factor out common ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from clusters.importing import TABLES
from clusters.importing.layout import Group, Machine
from clusters.importing.servers import (
    ADDRESSES,
    INTERFACES,
    PLACE,
    RAY,
    SIDES,
    SIZES,
    TRANSFER,
    Server,
    same_flags,
)
from entrypoints.inputs.arguments import Flag, from_value, is_flag, json_of
from entrypoints.inputs.recipes import EXTRA
from entrypoints.inputs.roles import ROLES
from entrypoints.inputs.settings import NAMES

V = TypeVar("V")

VISIBLE_DEVICES = "ASCEND_RT_VISIBLE_DEVICES"

_FLAG = re.compile(r"--(?:no-)?[a-z][a-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
FRONTEND_FLAGS = frozenset(TABLES["frontend"])
# Flags that the entrypoint sets for rank 0 only.
LEADER_FLAGS = ("--api-server-count", "--data-parallel-start-rank")


@dataclass(frozen=True)
class ServerSettings:
    """The flags and variables that the files must set for one server."""

    machine: Machine
    server: Server
    env: Mapping[str, str]
    own_env: Mapping[str, str]
    flags: Mapping[str, tuple[Flag, ...]]


def server_settings(
    group: Group, shared_machines: frozenset[str] = frozenset()
) -> list[ServerSettings]:
    """The settings of each server of a group, without those that follow from its place.

    `shared_machines`: those with servers of several groups, which have `devices:`.
    """
    networked, leader = ROLES[group.role].networked, group.members[0].machine.address
    found = []
    for i, member in enumerate(group.members):
        if member.server is None:
            continue
        server, machine = member.server, member.machine
        references = {leader: "$LEADER_IP", machine.address: "$LOCAL_IP"} if networked else {}
        env, own = {}, {}
        for name, text in server.env.items():
            if _follows(name, text, group, i, shared_machines):
                continue
            alone = name in server.script.literal or not _VARIABLE.fullmatch(name)
            if alone or name in NAMES or (not networked and name in (*ADDRESSES, *INTERFACES)):
                own[name] = text
            elif group.external and text == str(server.numbers.get("port")):
                env[name] = "$PORT"
            else:
                env[name] = _with_references(text, references)
        flags = {
            key: tuple(
                Flag(one.name, tuple(_with_references(v, references) for v in one.values))
                for one in those
            )
            for key, those in server.flags.items()
            if key not in PLACE and key != TRANSFER and not (server.ray and key == RAY)
        }
        if server.numbers.get("start_rank") == 0 and networked and not group.external:
            flags["--data-parallel-start-rank"] = (Flag("--data-parallel-start-rank", ("0",)),)
        found.append(ServerSettings(machine, server, env, own, flags))
    return found


def device_numbers(text: str) -> tuple[int, ...]:
    """The device numbers in a variable; empty if it is not a list of numbers."""
    return tuple(map(int, text.split(","))) if re.fullmatch(r"\d+(,\d+)*", text) else ()


def shared_devices(group: Group) -> str:
    """`devices:` of a group on shared machines, as a range if possible."""
    those = {device_numbers(one.env.get(VISIBLE_DEVICES, "")) for one in group.servers}
    (named,) = those if len(those) == 1 else ((),)
    if len(named) > 2 and named == tuple(range(named[0], named[-1] + 1)):
        return f"{named[0]}-{named[-1]}"
    return ",".join(map(str, named))


def _follows(name: str, text: str, group: Group, rank: int, crowded: frozenset[str]) -> bool:
    """Whether a variable follows from the node or the rank."""
    machine, networked = group.members[rank].machine, ROLES[group.role].networked
    if name == VISIBLE_DEVICES:
        own = group.external and text == _rank_devices(group, rank)
        return own or (machine.name in crowded and bool(device_numbers(text)))
    if networked and name in ADDRESSES[:2]:
        return text == machine.address
    return networked and name in INTERFACES and text == machine.nic


def _rank_devices(group: Group, rank: int) -> str:
    """The devices of an external rank, numbered as by the entrypoint."""
    each, place = group.leader.each, rank % group.local
    return ",".join(map(str, range(place * each, (place + 1) * each)))


def _with_references(text: str, references: Mapping[str, str]) -> str:
    """The text with references in place of addresses."""
    for address, reference in references.items():
        text = re.sub(rf"(?<![\w.]){re.escape(address)}(?![\w.])", reference, text)
    return text


def common(items: Sequence[Mapping[str, V]], equal: Callable[[V, V], bool]) -> dict[str, V]:
    """The items that all mappings share, in the order of the first."""
    first, *others = items
    return {
        key: value
        for key, value in first.items()
        if all(key in other and equal(value, other[key]) for other in others)
    }


def subtract(whole: Mapping[str, V], part: Mapping[str, Any]) -> dict[str, V]:
    return {key: value for key, value in whole.items() if key not in part}


def equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


# ---- flags as values of a recipe -----------------------------------------------------------------


def recipe_value(those: tuple[Flag, ...]) -> tuple[str, Any] | None:
    """Key and value for `args:`, or None if the flag cannot be written there."""
    if len(those) != 1 or not _FLAG.fullmatch(those[0].name):
        return None
    flag = those[0]
    name = flag.name[2:]
    choices: list[tuple[str, Any]] = []
    if not flag.values:
        choices = [(name[3:], False) if name.startswith("no-") else (name, True)]
    elif len(flag.values) == 1:
        (text,) = flag.values
        result = json_of({"": those}, "")
        choices = [(name, result)] if isinstance(result, dict) else []
        choices += [(name, _scalar(text)), (name, text)]
    elif not any(map(is_flag, flag.values)):
        choices = [(name, [_scalar(text) for text in flag.values])]
    for key, result in choices:
        if same_flags((from_value(key, result),), those) and _valid_in_recipe(result):
            return key, result
    return None


def _valid_in_recipe(raw: Any) -> bool:
    """Whether a recipe accepts the value: keys are text, numbers are finite."""
    if isinstance(raw, dict):
        return all(isinstance(key, str) and _valid_in_recipe(item) for key, item in raw.items())
    if isinstance(raw, list):
        return all(map(_valid_in_recipe, raw))
    return not (isinstance(raw, float) and (raw != raw or raw in (float("inf"), -float("inf"))))


def _scalar(text: str) -> Any:
    if re.fullmatch(r"-?(?:0|[1-9]\d{0,15})", text):
        return int(text)
    if re.fullmatch(r"-?\d{1,6}\.\d{1,6}", text) and repr(float(text)) == text:
        return float(text)
    return text


# ---- the KV transfer -----------------------------------------------------------------------------


def kv_transfer(server: Server, both: bool) -> dict[str, Any]:
    """`kv_transfer:` of a server, without what its role and the sizes of both sides provide."""
    result = server.transfer
    if not isinstance(result, dict):
        return {}
    role = result.get("kv_role")
    kept = {k: v for k, v in result.items() if not (k == "kv_role" and SIDES.get(str(role)))}
    return _strip_derived(kept, both, role)


def _strip_derived(raw: Mapping[str, Any], both: bool, role: Any) -> dict[str, Any]:
    kept = dict(raw)
    if str(kept.get("kv_connector")).startswith(("Mooncake", "Multi")):
        for key in ("kv_port", "engine_id"):  # a plan turns them into text
            if isinstance(kept.get(key), str) and re.fullmatch(r"0|[1-9]\d{0,8}", kept[key]):
                kept[key] = int(kept[key])
    extra = kept.get(EXTRA)
    if not isinstance(extra, dict):
        return kept
    inner = {k: v for k, v in extra.items() if not (both and k in SIDES.values())}
    parts = inner.get("connectors")
    if isinstance(parts, list):
        inner["connectors"] = [
            _strip_derived(_without_role(one, role), both, role) if isinstance(one, dict) else one
            for one in parts
        ]
    if inner:
        kept[EXTRA] = inner
    else:
        del kept[EXTRA]
    return kept


def _without_role(part: Mapping[str, Any], role: Any) -> dict[str, Any]:
    return {k: v for k, v in part.items() if not (k == "kv_role" and v == role and role in SIDES)}


def common_nested(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The items that all mappings share, also within nested mappings."""
    first, *others = items
    result = {}
    for key, value in first.items():
        if not all(key in other for other in others):
            continue
        those = [other[key] for other in others]
        if all(equal(value, other) for other in those):
            result[key] = value
        elif isinstance(value, dict) and all(isinstance(other, dict) for other in those):
            inner = common_nested([value, *those])
            if inner:
                result[key] = inner
    return result


def subtract_nested(whole: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The whole without the items of the part, also within nested mappings."""
    result = {}
    for key, value in whole.items():
        if key not in part:
            result[key] = value
        elif isinstance(value, dict) and isinstance(part[key], dict):
            inner = subtract_nested(value, part[key])
            if inner:
                result[key] = inner
        elif not equal(value, part[key]):
            result[key] = value
    return result


def sizes(server: Server, group: Group) -> dict[str, int]:
    """`sizes:` of a server."""
    result = {size: server.numbers[size] for size in SIZES if size in server.numbers}
    if group.external:
        result["dp_local"] = group.local
    local = result.get("dp_local")
    nodes = len(group.machines)
    dp = result.get("dp", 1)
    if local and dp > 1 and local * nodes == dp and ROLES[group.role].networked:
        del result["dp_local"]  # derived
    return result
