"""Ports that something else takes unasked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrypoints.launch.kv import Transfer
from entrypoints.rules.facts import WARNING, Check, Facts, Found, Rule, number

# A port of ours -> what sets it.
SET_BY: Mapping[str, str] = {
    "api": "PORT",
    "dp_rpc": "DP_RPC_PORT",
    "master": "--master-port",
    "ray": "RAY_PORT",
    "kv": "KV_PORT",
}


def _meets(facts: Facts, name: str, first: int, last: int) -> int | None:
    """Our first port when our range meets the other one."""
    port = facts.ports.get(name)
    if port is None:
        return None
    low, high = port if isinstance(port, list) else (port, port)
    return low if low <= last and high >= first else None


def _adxl(name: str) -> Rule:
    def rule(facts: Facts) -> Iterator[Found]:
        adxl = facts.ports.get("adxl")
        if not isinstance(adxl, list):
            return
        port = _meets(facts, name, *adxl)
        if port is not None:
            yield Found(
                f"{SET_BY[name]} {port} lies in {adxl[0]}-{adxl[1]}, which Mooncake"
                f" {facts.release.mooncake} uses for its devices:"
                " the start can fail with 'Address already in use'",
                f"set {SET_BY[name]} to a port from {adxl[1] + 1} up",
                source=facts.release.adxl_ports.source,
            )

    return rule


def reserved(facts: Facts) -> Iterator[Found]:
    for taken in facts.release.reserved_ports:
        if not _in_use(taken.when, facts) or taken.unless in facts.env:
            continue
        moved = number(facts.env.get(taken.moved_by, ""))
        first = taken.first if moved is None else moved
        last = first + taken.last - taken.first
        for name, variable in SET_BY.items():
            port = _meets(facts, name, first, last)
            if port is not None:
                yield Found(
                    f"{variable} {port} lies in {first}-{last}, of which {taken.name} takes some",
                    f"set {variable} to a port outside of it",
                    source=taken.source,
                )


def _in_use(when: str, facts: Facts) -> bool:
    names = _connectors(facts.transfer)
    return {
        "always": facts.platform is not None and facts.platform.devices > 0,
        "mooncake": any(name.startswith("Mooncake") for name in names),
        "store": any("Store" in name for name in names),
        "ray": "ray" in facts.ports,
    }[when]


def _connectors(transfer: Transfer | None) -> tuple[str, ...]:
    return (transfer.connector, *transfer.connectors) if transfer else ()


CHECKS = (
    *(
        Check(
            f"{name.replace('_', '-')}-port-in-adxl-range",
            WARNING,
            f"{variable} where Mooncake's ascend transport listens",
            "vllm-ascend PR #6455, #8938, #14263",
            _adxl(name),
        )
        for name, variable in SET_BY.items()
    ),
    Check(
        "port-reserved",
        WARNING,
        "a port that HCCL, Mooncake or Ray may take",
        "vllm-ascend#4725, #405; env/stack.yaml",
        reserved,
    ),
)
