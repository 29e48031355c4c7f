"""The network between NPUs of different nodes: hccn.conf and what hccn_tool reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from entrypoints.findings import WARNING, Finding, Message
from entrypoints.preflight import parse
from entrypoints.preflight.inspection import Inspection, check, failed, ok, ranges, skipped, warning
from entrypoints.record import NamedTuple


class Port(NamedTuple):
    """What hccn_tool reports about one device; None where it gave no such answer.

    `silent`: why no further question could be asked.
    """

    device: int
    link: str | None
    health: str | None
    tls: str | None
    address: str | None
    silent: str


def _roce(here: Inspection) -> bool:
    return here.platform.get("fabric") != "hccs"


def _graded(here: Inspection, message: Message) -> Message:
    """Over HCCS within a SuperPoD the RoCE ports are useful but not needed: only a warning."""
    return message if _roce(here) else message._replace(severity=WARNING)


_ALONE = skipped("this node's NPUs communicate with no other node's")
_NO_FILE = failed(
    "{path} is not here, so HCCL knows no device's address", "give docker run -v {path}:{path}:ro"
)
_NO_ADDRESS = failed(
    "{path} has no address of device {devices}",
    "set them on the host: hccn_tool -i N -ip -s address A netmask M",
)
_ADDRESSES = ok("addresses of {devices}")


@check(
    "hccn-conf",
    "addresses of devices",
    "fabric.address_source",
    *(_ALONE, _NO_FILE, _NO_ADDRESS, _NO_ADDRESS._replace(severity=WARNING), _ADDRESSES),
    npu=True,
)
def addresses(here: Inspection) -> Iterator[Finding]:
    path = here.facts["fabric"]["file"]
    if not here.needs.multi_node:
        yield _ALONE()
    elif not here.machine.exists(path):
        yield _NO_FILE(path=path)
    else:
        have = parse.device_addresses(here.machine.text(path))
        missing = [n for n in here.used if n not in have]
        if missing:
            yield _graded(here, _NO_ADDRESS)(path=path, devices=ranges(missing))
        else:
            yield _ADDRESSES(devices=ranges(here.used))


_TLS = {"code": "fabric-tls", "where": "TLS switch of devices"}
_STALE = {"code": "hccn-address", "where": "addresses in hccn.conf"}

_NO_TOOL = skipped("hccn_tool is not here: give docker run -v {path}:{path}")
_SILENT = warning(
    "hccn_tool of device {device}: {reason}",
    "run it by hand on the host; a driver that hangs needs a reset of the device",
)
_BAD = failed("{devices}", "check cables, switch and address of those ports")
_GOOD = ok("{good} on {devices}")
_NO_ANSWER = skipped("hccn_tool reports nothing about it")
_BAD_LINK, _GOOD_LINK, _NO_LINK = (
    one._replace(code="fabric-link", where="links of devices") for one in (_BAD, _GOOD, _NO_ANSWER)
)
_BAD_HEALTH, _GOOD_HEALTH, _NO_HEALTH = (
    one._replace(code="fabric-health", where="network health of devices")
    for one in (_BAD, _GOOD, _NO_ANSWER)
)
_TLS_DIFFERS = failed(
    "it differs: {devices}",
    "set one value on all NPUs of all nodes: hccn_tool -i N -tls -s enable 0",
    "fabric.tls_source",
    **_TLS,
)
_TLS_EQUAL = ok("{value} on {devices}; it must be {value} on every node", **_TLS)
_NO_TLS = skipped("hccn_tool reports nothing about it", **_TLS)
_OTHER_ADDRESS = failed(
    "{path} states {stated} for device {device}, which has {real}",
    "mount the host's current file, or set the address again on the host",
    "fabric.address_source",
    **_STALE,
)
_SAME_ADDRESSES = ok("{path} and hccn_tool agree", **_STALE)


@check(
    "fabric",
    "network of devices",
    "fabric.source",
    *(_ALONE, _NO_TOOL, _SILENT),
    *(_BAD_LINK, _BAD_LINK._replace(severity=WARNING), _GOOD_LINK, _NO_LINK),
    *(_BAD_HEALTH, _BAD_HEALTH._replace(severity=WARNING), _GOOD_HEALTH, _NO_HEALTH),
    *(_TLS_DIFFERS, _TLS_EQUAL, _NO_TLS, _OTHER_ADDRESS, _SAME_ADDRESSES),
    npu=True,
)
def network(here: Inspection) -> Iterator[Finding]:
    tool = here.tool("hccn_tool")
    if not here.needs.multi_node:
        yield _ALONE()
        return
    if tool is None:
        yield _NO_TOOL(path=here.facts["tools"]["hccn_tool"][0])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(len(here.used), 1)) as pool:
        ports = list(pool.map(lambda device: _ask(here, tool, device), here.used))
    for port in ports:
        if port.silent:
            yield _SILENT(device=port.device, reason=port.silent)
    links = _by_value((port.device, port.link) for port in ports)
    yield _all(here, links, "UP", _BAD_LINK, _GOOD_LINK, _NO_LINK)
    health = _by_value((port.device, port.health) for port in ports)
    yield _all(here, health, "Success", _BAD_HEALTH, _GOOD_HEALTH, _NO_HEALTH)
    yield _tls(_by_value((port.device, port.tls) for port in ports))
    yield from _written_addresses(here, ports)


def _ask(here: Inspection, tool: str, device: int) -> Port:
    """One device's commands, one after the other, up to the first that gives no answer."""
    answers: dict[str, str | None] = {}
    silent = ""
    questions = [("link", "link status"), ("net_health", "net health status"), ("tls", "")]
    if _roce(here):
        questions.append(("ip", "ipaddr"))
    for question, name in questions:
        output = here.ask(tool, "-i", str(device), f"-{question}", "-g")
        if output.code is None:
            silent = f"-{question} {output.text}"
            break
        answers[question] = (
            parse.hccn_value(output.text, name) if name else parse.tls_switch(output.text)
        )
    link, health, tls, address = map(answers.get, ("link", "net_health", "tls", "ip"))
    return Port(device, link, health, tls, address, silent)


def _by_value(values: Iterator[tuple[int, str | None]]) -> dict[str, list[int]]:
    """Group the devices by what hccn_tool reports about them."""
    by: dict[str, list[int]] = {}
    for device, value in values:
        if value is not None:
            by.setdefault(value, []).append(device)
    return by


def _all(
    here: Inspection,
    by: dict[str, list[int]],
    good: str,
    bad_message: Message,
    good_message: Message,
    none_message: Message,
) -> Finding:
    """One finding for all devices that do not report `good`, grouped by what they report."""
    bad = {value: those for value, those in by.items() if value.lower() != good.lower()}
    if bad:
        words = "; ".join(f"device {ranges(those)} {value}" for value, those in bad.items())
        return _graded(here, bad_message)(devices=words)
    if not by:
        return none_message()
    return good_message(good=good, devices=ranges(by[next(iter(by))]))


def _tls(by: dict[str, list[int]]) -> Finding:
    if len(by) > 1:
        words = "; ".join(f"{value} on device {ranges(those)}" for value, those in by.items())
        return _TLS_DIFFERS(devices=words)
    if not by:
        return _NO_TLS()
    (value,) = by
    return _TLS_EQUAL(value=value, devices=ranges(by[value]))


def _written_addresses(here: Inspection, ports: Sequence[Port]) -> Iterator[Finding]:
    path = here.facts["fabric"]["file"]
    real = {port.device: port.address for port in ports if port.address}
    if not real or not here.machine.exists(path):
        return
    written = parse.device_addresses(here.machine.text(path))
    stale = [d for d, address in real.items() if written.get(d, address) != address]
    for device in stale:
        yield _OTHER_ADDRESS(path=path, stated=written[device], device=device, real=real[device])
    if not stale:
        yield _SAME_ADDRESSES(path=path)
