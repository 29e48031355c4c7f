"""Ports that other software uses by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrypoints.findings import Finding
from entrypoints.launch.facts import Facts, number
from entrypoints.messages import finding

# A port of ours -> what sets it.
SET_BY: Mapping[str, str] = {
    "api": "PORT",
    "dp_rpc": "DP_RPC_PORT",
    "master": "--master-port",
    "ray": "RAY_PORT",
    "kv": "KV_PORT",
    "kv_schedulers": "KV_PORT",
}


def _overlap(facts: Facts, name: str, first: int, last: int) -> int | None:
    """Our first port, when our range overlaps the other one."""
    port = facts.ports.get(name)
    if port is None:
        return None
    low, high = port if isinstance(port, list) else (port, port)
    return low if low <= last and high >= first else None


def in_adxl_range(facts: Facts) -> Iterator[Finding]:
    adxl = facts.ports.get("adxl")
    if not isinstance(adxl, list):
        return
    first, last = adxl
    source, mooncake = facts.release.adxl_ports.source, facts.release.mooncake
    for name in SET_BY:
        port = _overlap(facts, name, first, last)
        if port is not None:
            span = {"port": port, "first": first, "last": last, "above": last + 1}
            kind = "kv" if name == "kv_schedulers" else name.replace("_", "-")
            code = f"{kind}-port-in-adxl-range"
            yield finding(code, source=source, mooncake=mooncake, **span)


def reserved(facts: Facts) -> Iterator[Finding]:
    for taken in facts.release.reserved_ports:
        if not _in_use(taken.when, facts) or taken.unless in facts.env:
            continue
        moved = number(facts.env.get(taken.moved_by, ""))
        first = taken.first if moved is None else moved
        span = {"first": first, "last": first + taken.last - taken.first}
        for name, variable in SET_BY.items():
            port = _overlap(facts, name, **span)
            if port is not None:
                named = {"variable": variable, "name": taken.name}
                yield finding("port-reserved", source=taken.source, port=port, **span, **named)


def _in_use(when: str, facts: Facts) -> bool:
    transfer = facts.transfer
    names = (transfer.connector, *transfer.connectors) if transfer else ()
    return {
        "always": facts.platform is not None and facts.platform.devices > 0,
        "mooncake": any(name.startswith("Mooncake") for name in names),
        "store": any("Store" in name for name in names),
        "ray": "ray" in facts.ports,
    }[when]


RULES = (in_adxl_range, reserved)
