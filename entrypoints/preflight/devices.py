"""Device nodes: whether they exist, suffice and may be used by this process."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.preflight.docker import options
from entrypoints.preflight.inspection import Inspection, check, failed, ok, ranges, visible, warning

_NONE = failed("no /dev/davinci* is here", "on a host with NPUs give docker run {options}")
_TOO_FEW = failed(
    "{have} of the {need} needed are here: {numbers}",
    "give the container {need} devices, or make TP_SIZE or DP_SIZE_LOCAL smaller",
)
_ENOUGH = ok("{have} are here ({numbers}), {need} needed")


@check("devices", "devices", "device_source", _NONE, _TOO_FEW, _ENOUGH, npu=True)
def count(here: Inspection) -> Iterator[Finding]:
    """The only finding on a machine without NPUs, where all other checks are skipped."""
    if not here.nodes:
        yield _NONE(options=" ".join(options(here)))
        return
    have, need = len(here.nodes), here.needs.devices
    message = _TOO_FEW if have < need else _ENOUGH
    yield message(have=have, need=need, numbers=ranges(here.nodes))


_NO_NODE = failed("/dev/{name} is not here", "give docker run --device /dev/{name}")
_ALL_NODES = ok("{names}")


@check("control-devices", "control devices", "device_source", _NO_NODE, _ALL_NODES, npu=True)
def control(here: Inspection) -> Iterator[Finding]:
    names = here.facts["control_nodes"]
    missing = [name for name in names if not here.machine.exists(f"/dev/{name}")]
    for name in missing:
        yield _NO_NODE(name=name)
    if not missing:
        yield _ALL_NODES(names=", ".join(names))


_RENUMBER = "number the container's devices from 0: 0 to {last}"
_ALL_VISIBLE = ok("not set: all devices are visible")
_NOT_NUMBERS = failed(
    "{value!r} is not a list of numbers", "give numbers from 0 to {last}, separated by commas"
)
_TWICE = failed("{value} names a device twice", "name each once")
_NOT_HERE = failed("{numbers} of {value} is not here: {have} devices, {present}", _RENUMBER)
_BEYOND = warning("{numbers} of {value} is beyond the container's {have} devices", _RENUMBER)
_TOO_FEW_VISIBLE = failed(
    "{value} are {chosen} devices, {need} are needed", "name more, or make the sizes smaller"
)
_VISIBLE = ok("{value}")


@check(
    "visible-devices",
    "ASCEND_RT_VISIBLE_DEVICES",
    "visible_source",
    *(_ALL_VISIBLE, _NOT_NUMBERS, _TWICE, _NOT_HERE, _BEYOND, _TOO_FEW_VISIBLE, _VISIBLE),
    npu=True,
)
def visible_devices(here: Inspection) -> Iterator[Finding]:
    """CANN refuses a number beyond those of the container.

    Where the host has a node of that number, they were probably meant as numbers of the host.
    """
    value, have, need = here.needs.visible, len(here.nodes), here.needs.devices
    if not value:
        yield _ALL_VISIBLE()
        return
    chosen = visible(value)
    if chosen is None:
        yield _NOT_NUMBERS(value=value, last=have - 1)
        return
    beyond = [n for n in chosen if n >= have]
    absent = [n for n in beyond if n not in here.nodes]
    values = {"value": value, "have": have, "need": need, "last": have - 1}
    if len(set(chosen)) < len(chosen):
        yield _TWICE(value=value)
    elif absent:
        yield _NOT_HERE(numbers=ranges(absent), present=ranges(here.nodes), **values)
    elif beyond:
        yield _BEYOND(numbers=ranges(beyond), **values)
    elif len(chosen) < need:
        yield _TOO_FEW_VISIBLE(chosen=len(chosen), **values)
    else:
        yield _VISIBLE(value=value)


_DENIED = failed("user {uid} may not use {paths}", "give docker run {option}")
_ALLOWED = ok("user {uid} may use them")


@check("device-access", "access to devices", "access_source", _DENIED, _ALLOWED, npu=True)
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
        yield _DENIED(uid=user.uid, paths=f"{first}{more}", option=option)
    if not denied:
        yield _ALLOWED(uid=user.uid)


_NAMED = ok("/etc/passwd names user {uid}")
_UNNAMED = failed(
    "/etc/passwd does not name user {uid}, as HCCL needs",
    "use root or a user of the image, or mount an /etc/passwd that names it",
)
_UNNAMED_ALONE = ok("/etc/passwd does not name user {uid}; with one device nothing needs it")


@check("account", "user account", "access_source", _NAMED, _UNNAMED, _UNNAMED_ALONE, npu=True)
def account(here: Inspection) -> Iterator[Finding]:
    """HCCL fails with error 19 for a user that /etc/passwd does not name (vllm-ascend #9490)."""
    uid = here.machine.user().uid
    lines = here.machine.text("/etc/passwd").splitlines()
    if any(line.split(":")[2:3] == [str(uid)] for line in lines):
        yield _NAMED(uid=uid)
    else:
        yield (_UNNAMED if here.needs.devices > 1 else _UNNAMED_ALONE)(uid=uid)
