"""The roles: what each needs and takes, what it listens on, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.live.failure import exit_codes
from common.yaml import document
from docs.render.page import Page, page
from entrypoints import show
from entrypoints.findings import Refused
from entrypoints.inputs import data, stack
from entrypoints.inputs.roles import ROLES, Role
from entrypoints.inputs.settings import VARIABLES, Variable
from entrypoints.launch.model import Launch
from entrypoints.plan import plan
from entrypoints.rules.ports import SET_BY

# Where SET_BY of the checks has no word, as nothing is checked against it.
SETS = {**SET_BY, "metrics": "--prometheus-port", "adxl": "ASCEND_BASE_PORT"}
WHENS = {
    "always": "NPUs are used",
    "mooncake": "a Mooncake connector",
    "store": "a KV store",
    "ray": "Ray",
}
TRIED = Path(__file__).parent / "roles.yaml"


@dataclass(frozen=True)
class Taken:
    """A variable and the roles whose plan it changes; `roles` is empty for all."""

    variable: Variable
    roles: tuple[str, ...]

    @property
    def by(self) -> str:
        """The roles in few words."""
        others = [name for name in ROLES if name not in self.roles]
        if not self.roles or not others:
            return "all"
        few = len(others) < len(self.roles)
        return f"all but {', '.join(others)}" if few else ", ".join(self.roles)


def made() -> Page:
    listens = ports()
    return page(
        "roles.md",
        "roles.md.j2",
        roles=list(ROLES.values()),
        taken=taken(),
        ports=listens,
        listeners={
            name: [role for role, names in listens.items() if name in names]
            for name in dict.fromkeys(name for names in listens.values() for name in names)
        },
        set_by=SETS,
        reserved=_release(None).reserved_ports,
        whens=WHENS,
        adxl={name: _release(name).adxl_ports for name in data.names("releases")},
        platforms=[one for one in map(_platform, data.names("platforms")) if one.devices],
        exit_codes=exit_codes(),
        usage=show.USAGE_TEXT.partition("\n\n")[0],
    )


def taken() -> list[Taken]:
    """Every variable, in the order of `--help`."""
    tried = document(TRIED)
    return [
        Taken(one, () if one.name in tried["everywhere"] else tuple(_with(one.name)))
        for one in VARIABLES
    ]


def ports() -> dict[str, tuple[str, ...]]:
    """Role → the names of the ports it listens on, with a Mooncake transfer where it has one."""
    return {name: tuple(_planned(name, {}).ports) for name in ROLES}


def _with(variable: str) -> Iterator[str]:
    """The roles whose plan is another one with the variable."""
    for name, role in ROLES.items():
        if any(_changes(role, variable, given) for given in document(TRIED)["variables"][variable]):
            yield name


def _changes(role: Role, variable: str, given: Mapping[str, Any]) -> bool:
    """Whether it is this variable that makes the plan another one, or possible."""
    without = {name: value for name, value in given.items() if name != variable}
    try:
        planned = _seen(_planned(role.name, given))
    except Refused:
        return False
    try:
        return planned != _seen(_planned(role.name, without))
    except Refused:
        return planned != _seen(_planned(role.name, {}))


def _seen(launch: Launch) -> object:
    return show.plan_data(launch), launch.peers, launch.leader, launch.npus


def _planned(role: str, given: Mapping[str, Any]) -> Launch:
    environ = {**document(TRIED)["roles"][role], **given, "ROLE": role}
    return plan(
        {
            name: json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in environ.items()
        }
    )


def _release(name: str | None) -> stack.Release:
    found = stack.release(name, [])
    assert found is not None
    return found


def _platform(name: str) -> stack.Platform:
    found = stack.platform(name, [])
    assert found is not None
    return found
