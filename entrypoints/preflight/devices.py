"""Device nodes: whether they are there, enough, and to be used by this process."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.preflight.docker import options
from entrypoints.preflight.finding import Finding
from entrypoints.preflight.look import Check, Look, several, visible


def _count(check: Check, look: Look) -> Iterator[Finding]:
    """The one finding about a machine without NPUs; without them all others are left out."""
    need, source = look.needs.devices, look.facts["device_source"]
    if not look.nodes:
        fix = f"on a host with NPUs give docker run {' '.join(options(look))}"
        yield check.failed("no /dev/davinci* is here", fix, source)
        return
    if len(look.nodes) < need:
        fix = f"give the container {need} devices, or make TP_SIZE or DP_SIZE_LOCAL smaller"
        message = f"{len(look.nodes)} of the {need} needed are here: {several(look.nodes)}"
        yield check.failed(message, fix, source)
    else:
        yield check.ok(f"{len(look.nodes)} are here ({several(look.nodes)}), {need} needed")


def _control(check: Check, look: Look) -> Iterator[Finding]:
    missing = [n for n in look.facts["control_nodes"] if not look.machine.exists(f"/dev/{n}")]
    for name in missing:
        fix = f"give docker run --device /dev/{name}"
        yield check.failed(f"/dev/{name} is not here", fix, look.facts["device_source"])
    if not missing:
        yield check.ok(", ".join(look.facts["control_nodes"]))


def _visible(check: Check, look: Look) -> Iterator[Finding]:
    """A number beyond those of the container is refused by CANN; where the node of that number is
    there, the numbers were probably meant as the host's."""
    source = look.facts["visible_source"]
    value, have = look.needs.visible, len(look.nodes)
    fix = f"number the container's devices from 0: 0 to {have - 1}"
    if not value:
        yield check.ok("not set: all devices are visible")
        return
    chosen = visible(value)
    if chosen is None:
        fix = f"give numbers from 0 to {have - 1}, separated by commas"
        yield check.failed(f"{value!r} is no list of numbers", fix, source)
        return
    beyond = [n for n in chosen if n >= have]
    absent = [n for n in beyond if n not in look.nodes]
    if len(set(chosen)) < len(chosen):
        yield check.failed(f"{value} names a device twice", "name each once", source)
    elif absent:
        message = f"{several(absent)} of {value} is not here: {have} devices, {several(look.nodes)}"
        yield check.failed(message, fix, source)
    elif beyond:
        message = f"{several(beyond)} of {value} is beyond the container's {have} devices"
        yield check.warning(message, fix, source)
    elif len(chosen) < look.needs.devices:
        message = f"{value} are {len(chosen)} devices, {look.needs.devices} are needed"
        yield check.failed(message, "name more, or make the sizes smaller", source)
    else:
        yield check.ok(value)


def _access(check: Check, look: Look) -> Iterator[Finding]:
    """The nodes belong to HwHiAiUser with mode 0660, and the container's device list counts too."""
    paths = [f"/dev/davinci{n}" for n in look.used]
    paths += [f"/dev/{n}" for n in look.facts["control_nodes"]]
    user = look.machine.user()
    refused: dict[str, list[str]] = {}
    for path in paths:
        state = look.machine.stat(path)
        if state is None or look.machine.may_use(path):
            continue
        ours = not user.uid or state.st_gid in user.groups
        fix = f"--device {path}" if ours else f"--group-add {state.st_gid}"
        refused.setdefault(fix, []).append(path)
    for fix, those in refused.items():
        rest = f" and {len(those) - 1} more" if len(those) > 1 else ""
        message = f"user {user.uid} may not use {those[0]}{rest}"
        yield check.failed(message, f"give docker run {fix}", look.facts["access_source"])
    if not refused:
        yield check.ok(f"user {user.uid} may use them")


def _account(check: Check, look: Look) -> Iterator[Finding]:
    """HCCL fails with error 19 for a user that /etc/passwd does not name (vllm-ascend #9490)."""
    uid = look.machine.user().uid
    lines = look.machine.text("/etc/passwd").splitlines()
    if any(line.split(":")[2:3] == [str(uid)] for line in lines):
        yield check.ok(f"/etc/passwd names user {uid}")
    elif look.needs.devices > 1:
        fix = "use root or a user of the image, or mount an /etc/passwd that names it"
        source = look.facts["access_source"]
        yield check.failed(f"/etc/passwd does not name user {uid}, as HCCL needs", fix, source)
    else:
        yield check.ok(f"/etc/passwd does not name user {uid}; with one device nothing asks")


DEVICES = Check("devices", "devices", _count, npu=True)
CONTROL = Check("control-devices", "control devices", _control, npu=True)
VISIBLE = Check("visible-devices", "ASCEND_RT_VISIBLE_DEVICES", _visible, npu=True)
ACCESS = Check("device-access", "access to devices", _access, npu=True)
ACCOUNT = Check("account", "user account", _account, npu=True)
