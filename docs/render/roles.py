"""The roles page: required and optional variables, ports and exit codes of each role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.live.failure import exit_codes
from common.yaml import document
from docs.render.markdown import Page, page
from docs.render.releases import release_facts
from entrypoints import printing
from entrypoints.findings import Refused
from entrypoints.inputs import data, stack
from entrypoints.inputs.roles import ROLES, Role
from entrypoints.inputs.settings import VARIABLES, Variable
from entrypoints.launch.model import Launch
from entrypoints.plan import plan
from entrypoints.rules.ports import SET_BY

# SET_BY with the ports that no check needs.
PORT_SETTINGS = {**SET_BY, "metrics": "--prometheus-port", "adxl": "ASCEND_BASE_PORT"}
PROBES = Path(__file__).with_name("roles.yaml")


@dataclass(frozen=True)
class RoleVariable:
    """A variable and the roles whose plan it changes; empty for all."""

    variable: Variable
    roles: tuple[str, ...]

    @property
    def by(self) -> str:
        """The roles, for people."""
        others = [name for name in ROLES if name not in self.roles]
        if not self.roles or not others:
            return "all"
        all_but = len(others) < len(self.roles)
        return f"all but {', '.join(others)}" if all_but else ", ".join(self.roles)


def render() -> Page:
    listens = ports()
    return page(
        "roles.md",
        "roles.md.j2",
        roles=list(ROLES.values()),
        taken=variables(),
        ports=listens,
        listeners={
            name: [role for role, names in listens.items() if name in names]
            for name in dict.fromkeys(name for names in listens.values() for name in names)
        },
        set_by=PORT_SETTINGS,
        reserved=release_facts(None).reserved_ports,
        whens=document(PROBES)["whens"],
        adxl={name: release_facts(name).adxl_ports for name in data.names("releases")},
        platforms=[one for one in map(_platform, data.names("platforms")) if one.devices],
        exit_codes=exit_codes(),
        usage=printing.USAGE_TEXT.partition("\n\n")[0],
    )


def variables() -> list[RoleVariable]:
    """Every variable, in the order of `--help`."""
    probes = document(PROBES)
    return [
        RoleVariable(one, () if one.name in probes["everywhere"] else tuple(_roles_of(one.name)))
        for one in VARIABLES
    ]


def ports() -> dict[str, tuple[str, ...]]:
    """Role → the names of its ports, including those of a Mooncake transfer."""
    return {name: tuple(_planned(name, {}).ports) for name in ROLES}


def _roles_of(variable: str) -> Iterator[str]:
    """The roles whose plan the variable changes."""
    probes = document(PROBES)["variables"][variable]
    for name, role in ROLES.items():
        if any(_changes(role, variable, given) for given in probes):
            yield name


def _changes(role: Role, variable: str, given: Mapping[str, Any]) -> bool:
    """Whether this variable changes the plan, or makes one possible."""
    without = {name: value for name, value in given.items() if name != variable}
    try:
        planned = _plan_summary(_planned(role.name, given))
    except Refused:
        return False
    try:
        return planned != _plan_summary(_planned(role.name, without))
    except Refused:
        return planned != _plan_summary(_planned(role.name, {}))


def _plan_summary(launch: Launch) -> object:
    return printing.plan_data(launch), launch.peers, launch.leader, launch.npus


def _planned(role: str, given: Mapping[str, Any]) -> Launch:
    environ = {**document(PROBES)["roles"][role], **given, "ROLE": role}
    texts = {k: json.dumps(v) if isinstance(v, dict) else str(v) for k, v in environ.items()}
    return plan(texts)


def _platform(name: str) -> stack.Platform:
    found = stack.platform(name, [])
    assert found is not None
    return found
