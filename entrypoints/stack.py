"""What the image is made for: facts about its platform and its release, from env/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import data
from .problems import Problem, choose


class Platform(NamedTuple):
    """env/platforms/<name>.yaml."""

    name: str
    description: str
    soc: str
    devices: int
    hbm_gib: int
    env: Mapping[str, str]


class AdxlPorts(NamedTuple):
    """Ports that Mooncake's ascend transport takes: `base + step * device` for each device."""

    base: int
    step: int
    source: str

    def of(self, platform: Platform) -> tuple[int, int]:
        """First and last port on a node of the platform."""
        return self.base, self.base + self.step * platform.devices - 1


class Release(NamedTuple):
    """env/releases/<name>.yaml. `kv_extra_config_unread`: key -> the source that says so."""

    name: str
    vllm: str
    mooncake: str
    kv_port: int
    adxl_ports: AdxlPorts
    kv_extra_config_unread: Mapping[str, str]


def platform(name: str | None, problems: list[Problem]) -> Platform | None:
    """The platform by name; None when no name is given. An unknown one is a problem."""
    raw = _load("platforms", "ASCEND_PLATFORM", name, problems) if name else None
    return Platform(name=name, **raw) if name and raw else None


def release(name: str | None, problems: list[Problem]) -> Release | None:
    """The release by name, else the default of env/defaults.yaml. An unknown one is a problem."""
    name = name or data.read(data.path_of("defaults.yaml"))["release"]
    raw = _load("releases", "VLLM_ASCEND_RELEASE", name, problems)
    if not raw:
        return None
    return Release(name=name, **{**raw, "adxl_ports": AdxlPorts(**raw["adxl_ports"])})


def _load(kind: str, variable: str, name: str, problems: list[Problem]) -> Any:
    path = data.path_of(kind, f"{name}.yaml")
    if name.startswith(".") or "/" in name or "\0" in name or not data.is_file(path):
        message = f"no facts about {name!r}"
        problems.append(
            Problem(f"unknown-{kind[:-1]}", variable, message, choose(name, data.names(kind)))
        )
        return None
    return data.read(path)
