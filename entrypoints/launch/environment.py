"""The environment of what runs on a node."""

from __future__ import annotations

from collections.abc import Mapping

from entrypoints.findings import Finding
from entrypoints.inputs import data, references, stack
from entrypoints.launch import topology
from entrypoints.launch.context import Context
from entrypoints.launch.topology import Place
from entrypoints.record import NamedTuple

References = Mapping[str, "str | None"]

_ADDRESS = ("HCCL_IF_IP", "VLLM_HOST_IP")
_INTERFACE = ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")


class Environment(NamedTuple):
    """`expands`: names whose values refer to other variables. `sources`: name -> who sets it."""

    env: dict[str, str]
    expands: frozenset[str]
    sources: Mapping[str, str]


def references_here(node: Context, place: Place, port: int) -> References:
    """The values of `$NAME` in a recipe; None for what is not known on this node."""
    leader = node.settings.leader_ip or (node.address.local_ip if place.leads else None)
    return {
        "LOCAL_IP": node.address.local_ip,
        "NIC": node.address.nic,
        "LEADER_IP": leader,
        "PORT": str(port),
        "NODE_RANK": str(place.rank),
        "DP_RANK": str(place.start_rank),
    }


def environment(
    node: Context,
    place: Place,
    wanted: Mapping[str, str],
    known: References,
    findings: list[Finding],
) -> Environment:
    """The variables to set.

    From lowest to highest: those of upstream's image, the platform's, `wanted` (of features), the
    recipe's, the node's addresses. A variable that the container already has keeps its value,
    unless ours extends it. VLLM_HOST_IP is set because vLLM takes the address of the default route
    (vllm#42023).
    """
    ours: dict[str, str | None] = {
        **(node.platform.env if node.platform else {}),
        **_devices(node, place),
        **wanted,
        **place.block.env,
    }
    upstream = stack.upstream_env(node.release, node.platform)
    upstream = {name: value for name, value in upstream.items() if name not in ours}
    ours.update(upstream)
    for name in _ADDRESS:
        ours[name] = node.address.local_ip or ours.get(name)
    for name in _INTERFACE:
        ours[name] = node.address.nic or ours.get(name)
    if node.settings.jemalloc is not False:
        ours.update(_jemalloc(_preloads(ours.get("LD_PRELOAD"), node.environ)))
    sources = {n: node.release.image_env["source"] for n in upstream if n not in node.environ}
    env, expands = {}, set()
    for name, value in ours.items():
        if value is None:
            continue
        value = references.fill(value, known, f"{node.at_recipe}: env.{name}", findings)
        refers = references.names(value)
        if name in node.environ and name not in refers and name != "LD_PRELOAD":
            env[name] = node.environ[name]
        else:
            env[name] = value
            if refers:
                expands.add(name)
    return Environment(env, frozenset(expands), sources)


def _devices(node: Context, place: Place) -> dict[str, str]:
    """The devices of Ray's workers, and of a rank under external data parallel."""
    if place.layout == topology.RAY:
        # Ray would hide devices from its workers (vllm-ascend docs: tutorials/ray.md).
        devices = range(node.platform.devices) if node.platform else ()
        own = {"RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "1"}
    elif place.layout == topology.EXTERNAL:
        first = place.local_rank * place.devices_per_rank
        devices, own = range(first, first + place.devices_per_rank), {}
    else:
        return {}
    if devices:
        own["ASCEND_RT_VISIBLE_DEVICES"] = ",".join(map(str, devices))
    return own


def _preloads(recipe: str | None, environ: Mapping[str, str]) -> str:
    """LD_PRELOAD without jemalloc: the container's, unless the recipe sets or extends it."""
    have = environ.get("LD_PRELOAD", "")
    if recipe and (not have or "LD_PRELOAD" in references.names(recipe)):
        return recipe
    return have


def _jemalloc(preloads: str) -> dict[str, str]:
    """LD_PRELOAD with jemalloc first, for the server only (vllm-ascend#5609)."""
    if "jemalloc" in preloads:
        return {}
    for path in data.read(data.path_of("defaults.yaml"))["jemalloc"]:
        if data.is_file(path):
            return {"LD_PRELOAD": f"{path}:{preloads}" if preloads else path}
    return {}
