"""Checks the machine before the server starts. Every check is independent of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from entrypoints.findings import Finding, Message
from entrypoints.preflight import chips, devices, driver, fabric, host, weights
from entrypoints.preflight.inspection import Check, Inspection, Needs, failed, inspect, skipped
from entrypoints.preflight.machine import MACHINE, Machine
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from entrypoints.launch.model import Launch

CHECKS: tuple[Check, ...] = (
    devices.count,
    devices.control,
    devices.visible_devices,
    devices.access,
    devices.account,
    chips.platform,
    driver.version,
    driver.libraries,
    driver.install,
    fabric.addresses,
    fabric.network,
    host.nic,
    host.ports,
    host.shared_memory,
    weights.weights,
    host.clock,
    host.name,
)

# What any check can report.
BROKEN = failed("cannot be checked: {error}", "set PREFLIGHT=warn to start anyway")
NO_NPU_NEEDED = skipped("this role uses no NPU")
NO_NPU = skipped("no NPU is here")


def needs(launch: Launch, env: Mapping[str, str]) -> Needs:
    """What a launch needs; `env` is the complete environment of its server."""
    context, place = launch.context, launch.place
    no_npus = context.platform is not None and not context.platform.devices
    return Needs(
        platform=context.platform,
        release=context.release,
        devices=place.devices if place and not no_npus else 0,
        visible=env.get("ASCEND_RT_VISIBLE_DEVICES"),
        multi_node=launch.multi_node,
        local_ip=context.address.local_ip,
        nic=context.address.nic,
        ports=launch.ports,
        model=context.model if place else "",
        env=env,
    )


def run(needs: Needs, machine: Machine = MACHINE) -> list[Finding]:
    """Every check's findings, in order. Never raises: a check that breaks is a failed one."""
    return list(examine(inspect(needs, machine), CHECKS))


def examine(here: Inspection, checks: Sequence[Check]) -> Iterator[Finding]:
    """What the checks find. Without NPUs, those that need some are skipped with the reason."""
    for check in checks:
        reason = _reason_to_skip(check, here)
        if reason:
            yield check.complete(reason(), here.facts)
            continue
        try:
            yield from check.findings(here)
        except Exception as error:
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            yield BROKEN(check.what, error=words)._replace(code=check.code)


def _reason_to_skip(check: Check, here: Inspection) -> Message | None:
    if check.npu and not here.needs.devices:
        return NO_NPU_NEEDED
    if check.npu and not here.nodes and check.code != devices.count.code:
        return NO_NPU
    return None
