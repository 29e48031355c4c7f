"""The network between NPUs of different nodes: hccn.conf and what hccn_tool reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.preflight import parse
from entrypoints.preflight.inspection import Inspection, check, ranges
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


def _graded(here: Inspection, message: str) -> str:
    """Over HCCS within a SuperPoD the RoCE ports are useful but not needed: only a warning."""
    return message if _roce(here) else f"{message}-hccs"


@check("hccn-conf", npu=True)
def addresses(here: Inspection) -> Iterator[Finding]:
    path = here.facts["fabric"]["file"]
    if not here.needs.multi_node:
        yield finding("hccn-conf.alone")
    elif not here.machine.exists(path):
        yield finding("hccn-conf.no-file", path=path)
    else:
        have = parse.device_addresses(here.machine.text(path))
        missing = [n for n in here.used if n not in have]
        if missing:
            message = _graded(here, "hccn-conf.no-address")
            yield finding(message, path=path, devices=ranges(missing))
        else:
            yield finding("hccn-conf.addresses", devices=ranges(here.used))


@check("fabric", npu=True)
def network(here: Inspection) -> Iterator[Finding]:
    tool = here.tool("hccn_tool")
    if not here.needs.multi_node:
        yield finding("fabric.alone")
        return
    if tool is None:
        yield finding("fabric.no-tool", path=here.facts["tools"]["hccn_tool"][0])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(len(here.used), 1)) as pool:
        ports = list(pool.map(lambda device: _ask(here, tool, device), here.used))
    for port in ports:
        if port.silent:
            yield finding("fabric.silent", device=port.device, reason=port.silent)
    links = _by_value((port.device, port.link) for port in ports)
    yield _all(here, links, "UP", "fabric-link")
    health = _by_value((port.device, port.health) for port in ports)
    yield _all(here, health, "Success", "fabric-health")
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


def _all(here: Inspection, by: dict[str, list[int]], good: str, code: str) -> Finding:
    """One finding for all devices that do not report `good`, grouped by what they report."""
    bad = {value: those for value, those in by.items() if value.lower() != good.lower()}
    if bad:
        words = "; ".join(f"device {ranges(those)} {value}" for value, those in bad.items())
        return finding(_graded(here, f"{code}.bad"), devices=words)
    if not by:
        return finding(f"{code}.no-answer")
    return finding(f"{code}.good", good=good, devices=ranges(by[next(iter(by))]))


def _tls(by: dict[str, list[int]]) -> Finding:
    if len(by) > 1:
        words = "; ".join(f"{value} on device {ranges(those)}" for value, those in by.items())
        return finding("fabric-tls.differs", devices=words)
    if not by:
        return finding("fabric-tls.no-answer")
    (value,) = by
    return finding("fabric-tls.equal", value=value, devices=ranges(by[value]))


def _written_addresses(here: Inspection, ports: Sequence[Port]) -> Iterator[Finding]:
    path = here.facts["fabric"]["file"]
    real = {port.device: port.address for port in ports if port.address}
    if not real or not here.machine.exists(path):
        return
    written = parse.device_addresses(here.machine.text(path))
    stale = [d for d, address in real.items() if written.get(d, address) != address]
    for device in stale:
        values = {"stated": written[device], "device": device, "real": real[device]}
        yield finding("hccn-address.other-address", path=path, **values)
    if not stale:
        yield finding("hccn-address.same-addresses", path=path)
