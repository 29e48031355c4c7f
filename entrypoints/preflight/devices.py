"""Device nodes: whether they exist, suffice and may be used by this process."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.preflight.docker import options
from entrypoints.preflight.inspection import Inspection, check, ranges, visible


@check("devices", npu=True)
def count(here: Inspection) -> Iterator[Finding]:
    """The only finding on a machine without NPUs, where all other checks are skipped."""
    if not here.nodes:
        yield finding("devices.none", options=" ".join(options(here)))
        return
    have, need = len(here.nodes), here.needs.devices
    message = "devices.too-few" if have < need else "devices.enough"
    yield finding(message, have=have, need=need, numbers=ranges(here.nodes))


@check("control-devices", npu=True)
def control(here: Inspection) -> Iterator[Finding]:
    names = here.facts["control_nodes"]
    missing = [name for name in names if not here.machine.exists(f"/dev/{name}")]
    for name in missing:
        yield finding("control-devices.no-node", name=name)
    if not missing:
        yield finding("control-devices.all-nodes", names=", ".join(names))


@check("visible-devices", npu=True)
def visible_devices(here: Inspection) -> Iterator[Finding]:
    """CANN refuses a number beyond those of the container.

    Where the host has a node of that number, they were probably meant as numbers of the host.
    """
    value, have, need = here.needs.visible, len(here.nodes), here.needs.devices
    if not value:
        yield finding("visible-devices.not-set")
        return
    chosen = visible(value)
    if chosen is None:
        yield finding("visible-devices.not-numbers", value=value, last=have - 1)
        return
    beyond = [n for n in chosen if n >= have]
    absent = [n for n in beyond if n not in here.nodes]
    values = {"value": value, "have": have, "need": need, "last": have - 1}
    if len(set(chosen)) < len(chosen):
        yield finding("visible-devices.twice", value=value)
    elif absent:
        yield finding(
            "visible-devices.not-here", numbers=ranges(absent), present=ranges(here.nodes), **values
        )
    elif beyond:
        yield finding("visible-devices.beyond", numbers=ranges(beyond), **values)
    elif len(chosen) < need:
        yield finding("visible-devices.too-few", chosen=len(chosen), **values)
    else:
        yield finding("visible-devices.visible", value=value)


@check("device-access", npu=True)
def access(here: Inspection) -> Iterator[Finding]:
    """The nodes belong to HwHiAiUser with mode 0660, and the container's device list counts too."""
    paths = [f"/dev/davinci{n}" for n in here.used]
    paths += [f"/dev/{n}" for n in here.facts["control_nodes"]]
    user = here.machine.user()
    denied: dict[str, list[str]] = {}
    for path in paths:
        state = here.machine.stat(path)
        if state is None or here.machine.may_use(path):
            continue
        in_group = not user.uid or state.st_gid in user.groups
        option = f"--device {path}" if in_group else f"--group-add {state.st_gid}"
        denied.setdefault(option, []).append(path)
    for option, (first, *others) in denied.items():
        more = f" and {len(others)} more" if others else ""
        yield finding("device-access.denied", uid=user.uid, paths=f"{first}{more}", option=option)
    if not denied:
        yield finding("device-access.allowed", uid=user.uid)


@check("account", npu=True)
def account(here: Inspection) -> Iterator[Finding]:
    """HCCL fails with error 19 for a user that /etc/passwd does not name (vllm-ascend #9490)."""
    uid = here.machine.user().uid
    lines = here.machine.text("/etc/passwd").splitlines()
    if any(line.split(":")[2:3] == [str(uid)] for line in lines):
        message = "account.named"
    else:
        message = "account.unnamed" if here.needs.devices > 1 else "account.unnamed-alone"
    yield finding(message, uid=uid)
