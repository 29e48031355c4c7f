"""Checks the machine before the server starts. Every check is independent of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from entrypoints import messages
from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.preflight import chips, devices, driver, fabric, host, weights
from entrypoints.preflight.inspection import Check, Inspection, Needs, complete, inspect
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
        try:
            skipped = _reason_to_skip(check, here)
            for found in [_of_any(check, skipped)] if skipped else check.findings(here):
                yield complete(found, here.facts)
        except Exception as error:
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            yield complete(_of_any(check, "any.broken", error=words), here.facts)


def _reason_to_skip(check: Check, here: Inspection) -> str:
    if check.npu and not here.needs.devices:
        return "any.no-npu-needed"
    return "any.no-npu" if check.npu and not here.nodes and check.code != "devices" else ""


def _of_any(check: Check, message: str, **values: str) -> Finding:
    """A finding that every check can have, with the check's code and name."""
    where = messages.read("machine")[check.code]["where"]
    return finding(message, where, **values)._replace(code=check.code)
