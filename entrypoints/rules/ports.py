"""Ports that other software uses by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrypoints.findings import WARNING, Check, Finding, Message, check
from entrypoints.launch.facts import Facts, number

# A port of ours -> what sets it.
SET_BY: Mapping[str, str] = {
    "api": "PORT",
    "dp_rpc": "DP_RPC_PORT",
    "master": "--master-port",
    "ray": "RAY_PORT",
    "kv": "KV_PORT",
}


def _overlap(facts: Facts, name: str, first: int, last: int) -> int | None:
    """Our first port, when our range overlaps the other one."""
    port = facts.ports.get(name)
    if port is None:
        return None
    low, high = port if isinstance(port, list) else (port, port)
    return low if low <= last and high >= first else None


def _adxl(name: str) -> Check:
    variable = SET_BY[name]

    @check(
        f"{name.replace('_', '-')}-port-in-adxl-range",
        WARNING,
        f"{variable} where Mooncake's ascend transport listens",
        "vllm-ascend PR #6455, #8938, #14263",
        Message(
            f"{variable} {{port}} lies in {{first}}-{{last}}, which Mooncake {{mooncake}} uses for"
            " its devices: the start can fail with 'Address already in use'",
            f"set {variable} to {{above}} or higher",
        ),
    )
    def rule(facts: Facts, found: Message) -> Iterator[Finding]:
        adxl = facts.ports.get("adxl")
        if not isinstance(adxl, list):
            return
        first, last = adxl
        port = _overlap(facts, name, first, last)
        if port is not None:
            release = facts.release
            span = {"port": port, "first": first, "last": last, "above": last + 1}
            yield found(source=release.adxl_ports.source, mooncake=release.mooncake, **span)

    return rule


@check(
    "port-reserved",
    WARNING,
    "a port that HCCL, Mooncake or Ray may take",
    "vllm-ascend#4725, #405; env/stack.yaml",
    Message(
        "{variable} {port} lies in {first}-{last}, where {name} takes ports",
        "set {variable} to a port outside that range",
    ),
)
def reserved(facts: Facts, found: Message) -> Iterator[Finding]:
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
                yield found(source=taken.source, port=port, **span, **named)


def _in_use(when: str, facts: Facts) -> bool:
    transfer = facts.transfer
    names = (transfer.connector, *transfer.connectors) if transfer else ()
    return {
        "always": facts.platform is not None and facts.platform.devices > 0,
        "mooncake": any(name.startswith("Mooncake") for name in names),
        "store": any("Store" in name for name in names),
        "ray": "ray" in facts.ports,
    }[when]


CHECKS = (*map(_adxl, SET_BY), reserved)
