"""The network between NPUs of different nodes: hccn.conf and what hccn_tool says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from entrypoints.preflight import parse
from entrypoints.preflight.finding import FAILED, WARNING, Finding
from entrypoints.preflight.look import Check, Look, several
from entrypoints.record import NamedTuple


class Port(NamedTuple):
    """What hccn_tool says of one device; None where it said nothing of the kind.

    `silent` is why it could not be asked any further.
    """

    device: int
    link: str | None
    health: str | None
    tls: str | None
    address: str | None
    silent: str


def _alone(look: Look) -> str | None:
    return None if look.needs.multi_node else "this node's NPUs talk to no other node's"


def _roce(look: Look) -> bool:
    return look.platform.get("fabric") != "hccs"


def _state(look: Look) -> str:
    """Over HCCS within a SuperPoD the RoCE ports are of use but not needed."""
    return FAILED if _roce(look) else WARNING


def _file(check: Check, look: Look) -> Iterator[Finding]:
    facts = look.facts["fabric"]
    path, source = facts["file"], facts["address_source"]
    why = _alone(look)
    if why:
        yield check.skipped(why)
    elif not look.machine.exists(path):
        fix = f"give docker run -v {path}:{path}:ro"
        yield check.failed(f"{path} is not here, so HCCL knows no device's address", fix, source)
    else:
        have = parse.device_addresses(look.machine.text(path))
        missing = [n for n in look.used if n not in have]
        if missing:
            message = f"{path} has no address of device {several(missing)}"
            fix = "set them on the host: hccn_tool -i N -ip -s address A netmask M"
            yield Finding(check.code, _state(look), check.what, message, fix, source)
        else:
            yield check.ok(f"addresses of {several(look.used)}")


def _ask(look: Look, tool: str, device: int) -> Port:
    """One device's commands, one after the other, up to the first that gives no answer."""
    said: dict[str, str | None] = {}
    silent = ""
    questions = [("link", "link status"), ("net_health", "net health status"), ("tls", "")]
    if _roce(look):
        questions.append(("ip", "ipaddr"))
    for question, name in questions:
        output = look.ask(tool, "-i", str(device), f"-{question}", "-g")
        if output.code is None:
            silent = f"-{question} {output.text}"
            break
        said[question] = (
            parse.hccn_value(output.text, name) if name else parse.tls_switch(output.text)
        )
    return Port(
        device, said.get("link"), said.get("net_health"), said.get("tls"), said.get("ip"), silent
    )


def _tool(check: Check, look: Look) -> Iterator[Finding]:
    tool, why = look.tool("hccn_tool"), _alone(look)
    if not why and tool is None:
        why = "hccn_tool is not here: give docker run -v "
        why += ":".join([look.facts["tools"]["hccn_tool"][0]] * 2)
    if why or tool is None:
        yield check.skipped(why or "")
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(len(look.used), 1)) as pool:
        ports = list(pool.map(lambda device: _ask(look, tool, device), look.used))
    for port in ports:
        if port.silent:
            message = f"hccn_tool of device {port.device}: {port.silent}"
            fix = "run it by hand on the host; a driver that hangs needs a reset of the device"
            yield check.warning(message, fix, look.facts["fabric"]["source"])
    yield _all(LINK, look, [(p.device, p.link) for p in ports], "UP")
    yield _all(NET_HEALTH, look, [(p.device, p.health) for p in ports], "Success")
    yield _tls(look, ports)
    yield from _addresses(look, ports)


def _all(check: Check, look: Look, values: Sequence[tuple[int, str | None]], good: str) -> Finding:
    """One finding for all devices: those that differ from `good`, by what they say."""
    by: dict[str, list[int]] = {}
    for device, value in values:
        if value is not None:
            by.setdefault(value, []).append(device)
    bad = {value: those for value, those in by.items() if value.lower() != good.lower()}
    if bad:
        words = "; ".join(f"device {several(those)} {value}" for value, those in bad.items())
        fix = "check cables, switch and address of those ports"
        source = look.facts["fabric"]["source"]
        return Finding(check.code, _state(look), check.what, words, fix, source)
    if not by:
        return check.skipped("hccn_tool says nothing of it")
    return check.ok(f"{good} on {several(by[next(iter(by))])}")


def _tls(look: Look, ports: Sequence[Port]) -> Finding:
    by: dict[str, list[int]] = {}
    for port in ports:
        if port.tls is not None:
            by.setdefault(port.tls, []).append(port.device)
    if len(by) > 1:
        words = "; ".join(f"{value} on device {several(those)}" for value, those in by.items())
        fix = "set one value on all NPUs of all nodes: hccn_tool -i N -tls -s enable 0"
        return TLS.failed(f"it differs: {words}", fix, look.facts["fabric"]["tls_source"])
    if not by:
        return TLS.skipped("hccn_tool says nothing of it")
    (value,) = by
    return TLS.ok(f"{value} on {several(by[value])}; it must be {value} on every node")


def _addresses(look: Look, ports: Sequence[Port]) -> Iterator[Finding]:
    facts = look.facts["fabric"]
    real = {port.device: port.address for port in ports if port.address}
    if not real or not look.machine.exists(facts["file"]):
        return
    written = parse.device_addresses(look.machine.text(facts["file"]))
    stale = [d for d, address in real.items() if written.get(d, address) != address]
    for device in stale:
        message = f"{facts['file']} says {written[device]} of device {device},"
        message += f" which has {real[device]}"
        fix = "mount the host's current file, or set the address again on the host"
        yield STALE.failed(message, fix, facts["address_source"])
    if not stale:
        yield STALE.ok(f"{facts['file']} and hccn_tool agree")


FILE = Check("hccn-conf", "addresses of devices", _file, npu=True)
TOOL = Check("fabric", "network of devices", _tool, npu=True)
LINK = Check("fabric-link", "links of devices", _tool)
NET_HEALTH = Check("fabric-health", "network health of devices", _tool)
TLS = Check("fabric-tls", "TLS switch of devices", _tool)
STALE = Check("hccn-address", "addresses in hccn.conf", _tool)
