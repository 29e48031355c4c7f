"""The image's platform and release: what env/ states about them.

env/stack.yaml has what all releases share, env/releases/<name>.yaml what differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from entrypoints.findings import Finding, did_you_mean
from entrypoints.inputs import data
from entrypoints.inputs.arguments import scalar
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Platform(NamedTuple):
    """env/platforms/<name>.yaml. `devices`: NPUs of a node; 0 on a platform without NPUs.

    `hbm_gib` is the memory that a device is sold with, `hbm_bytes` what torch sees of it.
    """

    name: str
    description: str
    soc: str
    devices: int
    hbm_gib: int
    hbm_bytes: int
    env: Mapping[str, str]


class AdxlPorts(NamedTuple):
    """Ports that Mooncake's ascend transport takes: `base + step * device` for each device.

    ASCEND_BASE_PORT moves the base.
    """

    base: int
    step: int
    source: str

    def of(self, platform: Platform, moved: str = "") -> tuple[int, int]:
        """First and last port on a node of the platform. `moved`: value of ASCEND_BASE_PORT."""
        base = int(moved) if re.fullmatch("[0-9]{1,5}", moved) else self.base
        return base, base + self.step * platform.devices - 1


class Feature(NamedTuple):
    """How a release takes a feature that a recipe names: as a flag or as a variable.

    `arg`: flag without dashes, or one key inside a JSON flag (`hf-overrides.rope_parameters`).
    `add`: merged with the recipe's mapping, of which only `keys` are taken (empty: all).
    `values`: those that the release accepts (empty: any). `default`: its own.
    `was`: an older variable that still sets the feature when the operator gives it.
    `missing`: why the release has no form for it.
    """

    arg: str = ""
    env: str = ""
    add: Mapping[str, Any] = {}
    keys: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    was: str = ""
    missing: str = ""
    default: int | None = None
    source: str = ""


class ReservedPorts(NamedTuple):
    """Ports that other software takes by default. `when`: always, mooncake, store or ray.

    `moved_by`: the variable that gives another first port; `unless`: the one that replaces them.
    """

    name: str
    first: int
    last: int
    when: str
    source: str
    moved_by: str = ""
    unless: str = ""


class Release(NamedTuple):
    """env/stack.yaml overlaid with env/releases/<name>.yaml; the files explain each key.

    `facts`: the release whose files hold for it. `connectors`: name -> source.
    `connectors_gone`, `flags_gone`: name -> {instead, source}.
    `variables_gone`: name -> {since, fix, source}. The other mappings have a `source` too.
    `image_env`: what upstream's image sets for every process; {} for a vLLM without vllm-ascend.
    """

    name: str
    facts: str
    vllm: str
    mooncake: str
    kv_port: int
    adxl_ports: AdxlPorts
    features: Mapping[str, Feature]
    connectors: Mapping[str, str]
    connectors_gone: Mapping[str, Mapping[str, str]]
    flags_gone: Mapping[str, Mapping[str, str]]
    variables_gone: Mapping[str, Mapping[str, str]]
    headless_api_servers: Mapping[str, Any]
    async_scheduling_refused: Mapping[str, Any]
    kv_blocks_checked: Mapping[str, Any]
    prefill_over_nodes: Mapping[str, Any]
    flashcomm1_asserted: Mapping[str, Any]
    fused_mc2_largest_ep: Mapping[str, Any]
    dense_external_dp: Mapping[str, Any]
    kv_engine_id_suffixed: Mapping[str, Any]
    gpu_memory_utilization: float
    reserved_ports: tuple[ReservedPorts, ...]
    timeouts: Mapping[str, Any]
    a2_expert_parallel: Mapping[str, Any]
    image_env: Mapping[str, Any] = {}


def platform(name: str | None, findings: list[Finding]) -> Platform | None:
    """The platform by name; None when no name is given. An unknown one is an error."""
    raw = _load("platforms", "unknown-platform", name, findings) if name else None
    return Platform(name=name, **raw) if name and raw else None


def release(name: str | None, findings: list[Finding]) -> Release | None:
    """The release by name, else the default of env/defaults.yaml. An unknown one is an error.

    One that is not known, between known ones, has the facts of the nearest one below it.
    """
    name = name or data.read(data.path_of("defaults.yaml"))["release"]
    path = data.path_of("releases", f"{name}.yaml")
    facts = name if _plain(name) and data.is_file(path) else ""
    if not facts:
        from entrypoints.inputs import releases  # needed only for a release without a file

        known = data.names("releases")
        facts = releases.facts_of(name, known)
        if not facts:
            fix = releases.meant(name, known)
            findings.append(finding("unknown-release.no-facts", name=name, known=fix))
            return None
        if releases.is_own(name, facts):
            name = facts
        else:
            findings.append(finding("nearest-release", name=name, facts=facts))
        path = data.path_of("releases", f"{facts}.yaml")
    own = data.read(path)
    return data.cached(("release", name), lambda: _release(name, facts, own))


def upstream_env(release: Release, platform: Platform | None) -> dict[str, str]:
    """What upstream's image sets for every process; its images are for NPUs."""
    if platform and not platform.devices:
        return {}
    return {n: scalar(value) for n, value in release.image_env.items() if n != "source"}


def _release(name: str, facts: str, own: Mapping[str, Any]) -> Release:
    common = data.read(data.path_of("stack.yaml"))
    raw = {**common, **own, "features": {**common["features"], **own["features"]}}
    made = {
        "adxl_ports": AdxlPorts(**raw["adxl_ports"]),
        "features": {key: _feature(form) for key, form in raw["features"].items()},
        "connectors": {
            one: group["source"] for group in raw["connectors"].values() for one in group["names"]
        },
        "reserved_ports": tuple(ReservedPorts(**ports) for ports in raw["reserved_ports"]),
    }
    return Release(name=name, facts=facts, **{**raw, **made})


def _feature(form: Mapping[str, Any]) -> Feature:
    lists = {key: tuple(form[key]) for key in ("keys", "values") if key in form}
    return Feature(**{**form, **lists})


def _plain(name: str) -> bool:
    return not (name.startswith(".") or "/" in name or "\0" in name)


def _load(kind: str, unknown: str, name: str, findings: list[Finding]) -> Any:
    path = data.path_of(kind, f"{name}.yaml")
    if not _plain(name) or not data.is_file(path):
        known = did_you_mean(name, data.names(kind))
        findings.append(finding(f"{unknown}.no-facts", name=name, known=known))
        return None
    return data.read(path)
