"""The host: its network, ports, shared memory, clock and name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.preflight.inspection import Inspection, check, ranges

_MIB = 1 << 20


@check("nic")
def nic(here: Inspection) -> Iterator[Finding]:
    name, address = here.needs.nic, here.needs.local_ip
    if not name and not address:
        yield finding("nic.alone")
        return
    addresses = here.machine.addresses()
    interfaces = ", ".join(f"{one} {ip}" for one, ip in addresses if one != "lo") or "none"
    values = {"nic": name, "address": address, "interfaces": interfaces}
    state = f"/sys/class/net/{name}/operstate"
    if name and not here.machine.exists(f"/sys/class/net/{name}"):
        yield finding("nic.no-interface", **values)
    elif name and here.machine.exists(state) and here.machine.text(state).strip() == "down":
        yield finding("nic.down", **values)
    elif address and address not in [ip for _, ip in addresses]:
        yield finding("nic.no-address", **values)
    elif name and address and (name, address) not in addresses:
        yield finding("nic.other-address", **values)
    else:
        has = f" and has {address}" if address else ""
        yield finding("nic.up", nic=name or "an interface", address=has)


@check("ports")
def ports(here: Inspection) -> Iterator[Finding]:
    spans = {n: p if isinstance(p, list) else [p, p] for n, p in here.needs.ports.items()}
    busy = False
    for name, (first, last) in spans.items():
        numbers = range(max(first, 1), min(last, 65535) + 1)
        taken = {n: reason for n in numbers if (reason := here.machine.taken(n))}
        if not taken:
            continue
        busy = True
        holder, reason = _holder(here, min(taken)), taken[min(taken)]
        message = "ports.some-taken" if name in here.facts["sparse_ports"] else "ports.taken"
        yield finding(message, name=name, ports=ranges(taken), holder=holder, reason=reason)
    if not busy:
        words = [f"{n} {a}-{b}" if b > a else f"{n} {a}" for n, (a, b) in spans.items()]
        yield finding("ports.free", ports=", ".join(words) or "none needed")


def _holder(here: Inspection, port: int) -> str:
    """` by process 12 (python)`, as far as this process may see others."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not here.machine.exists(table):
            continue
        for line in here.machine.text(table).splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == "0A" and words[1].endswith(f":{port:04X}"):
                inodes.add(f"socket:[{words[9]}]")
    for pid in here.machine.names("/proc") if inodes else ():
        folder = f"/proc/{pid}/fd"
        try:
            links = [here.machine.link(f"{folder}/{fd}") for fd in here.machine.names(folder)]
            if pid.isdigit() and inodes & set(links):
                return f" by process {pid} ({here.machine.text(f'/proc/{pid}/comm').strip()})"
        except OSError:
            continue
    return ""


@check("shared-memory")
def shared_memory(here: Inspection) -> Iterator[Finding]:
    """Workers pass messages through /dev/shm; too little of it makes them hang."""
    if not here.machine.exists("/dev/shm"):
        yield finding("shared-memory.no-shm")
        return
    facts, workers = here.facts["shared_memory"], here.needs.devices
    total, wanted = here.machine.size_of("/dev/shm").total // _MIB, facts["advised"]
    if total <= facts["docker_default"] and workers > 1:
        message = "shared-memory.little"
    else:
        message = "shared-memory.less" if total < wanted else "shared-memory.memory"
    yield finding(message, total=total, wanted=wanted, workers=workers, advised=wanted // 1024)


@check("clock")
def clock(here: Inspection) -> Iterator[Finding]:
    """No clock can be earlier than the build of the image."""
    import calendar
    import time

    facts = here.facts["clock"]
    earliest = calendar.timegm(time.strptime(facts["not_before"], "%Y-%m-%d"))
    files = [here.machine.stat(path) for path in facts["files"]]
    earliest = max([earliest, *(int(file.st_mtime) for file in files if file)])
    now = here.machine.now()
    message = "clock.past" if now < earliest - 86400 else "clock.time"
    day = time.strftime("%Y-%m-%d", time.gmtime(earliest))
    yield finding(message, now=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)), earliest=day)


@check("host-name")
def name(here: Inspection) -> Iterator[Finding]:
    """Gloo takes the address of the host's name where no interface is given."""
    own = here.machine.host_name()
    addresses = here.machine.resolve(own)
    given = bool(here.needs.env.get("GLOO_SOCKET_IFNAME"))
    local = [a for a in addresses if re.match(r"127\.", a)]
    if not addresses:
        yield finding("host-name.unresolved", name=own)
    elif local and here.needs.multi_node and not given:
        yield finding("host-name.loopback", name=own, address=local[0])
    else:
        yield finding("host-name.resolved", name=own, address=addresses[0])
