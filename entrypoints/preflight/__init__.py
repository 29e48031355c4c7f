"""Checks the machine before the server starts. Every check is independent of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from entrypoints.preflight import chips, devices, driver, fabric, host, weights
from entrypoints.preflight.finding import FAILED, Finding
from entrypoints.preflight.look import Check, Look, Needs, look
from entrypoints.preflight.machine import MACHINE, Machine
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from entrypoints.launch.plan import Launch

__all__ = ["CHECKS", "MACHINE", "Check", "Finding", "Machine", "Needs", "examine", "needs", "run"]

CHECKS: tuple[Check, ...] = (
    devices.DEVICES,
    devices.CONTROL,
    devices.VISIBLE,
    devices.ACCESS,
    devices.ACCOUNT,
    chips.PLATFORM,
    driver.VERSION,
    driver.LIBRARIES,
    driver.INSTALL,
    fabric.FILE,
    fabric.TOOL,
    host.NIC,
    host.PORTS,
    host.SHARED_MEMORY,
    weights.WEIGHTS,
    host.CLOCK,
    host.NAME,
)


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
    """Every check's findings, in order. Never raises: a check that breaks is a failed finding."""
    return list(examine(look(needs, machine), CHECKS))


def examine(look: Look, checks: Sequence[Check]) -> Iterator[Finding]:
    """What the checks find. Without NPUs those that need some are left out with the reason."""
    for check in checks:
        why = _left_out(check, look)
        if why:
            yield check.skipped(why)
            continue
        try:
            yield from check.look(check, look)
        except Exception as error:
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            fix = "set PREFLIGHT=warn to start all the same"
            yield Finding(check.code, FAILED, check.what, f"cannot be checked: {words}", fix)


def _left_out(check: Check, look: Look) -> str:
    if check.npu and not look.needs.devices:
        return "this role uses no NPU"
    if check.npu and not look.nodes and check.code != devices.DEVICES.code:
        return "no NPU is here"
    return ""
