"""The host: its network, ports, shared memory, clock and name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from entrypoints.findings import WARNING, Finding
from entrypoints.preflight.inspection import Inspection, check, failed, ok, ranges, skipped, warning

_MIB = 1 << 20

_CHOOSE = "give docker run --net=host, or set NIC and LOCAL_IP to one of: {interfaces}"
_ALONE = skipped("this node communicates with no other")
_NO_INTERFACE = failed("there is no {nic}", _CHOOSE)
_DOWN = failed("{nic} is down", "ip link set {nic} up, or another NIC")
_NO_ADDRESS = failed("no interface has LOCAL_IP {address}", _CHOOSE)
_OTHER_ADDRESS = failed("{nic} does not have LOCAL_IP {address}", _CHOOSE)
_UP = ok("{nic} is up{address}")


@check(
    "nic",
    "network interface",
    "network_source",
    *(_ALONE, _NO_INTERFACE, _DOWN, _NO_ADDRESS, _OTHER_ADDRESS, _UP),
)
def nic(here: Inspection) -> Iterator[Finding]:
    name, address = here.needs.nic, here.needs.local_ip
    if not name and not address:
        yield _ALONE()
        return
    addresses = here.machine.addresses()
    interfaces = ", ".join(f"{one} {ip}" for one, ip in addresses if one != "lo") or "none"
    values = {"nic": name, "address": address, "interfaces": interfaces}
    state = f"/sys/class/net/{name}/operstate"
    if name and not here.machine.exists(f"/sys/class/net/{name}"):
        yield _NO_INTERFACE(**values)
    elif name and here.machine.exists(state) and here.machine.text(state).strip() == "down":
        yield _DOWN(**values)
    elif address and address not in [ip for _, ip in addresses]:
        yield _NO_ADDRESS(**values)
    elif name and address and (name, address) not in addresses:
        yield _OTHER_ADDRESS(**values)
    else:
        has = f" and has {address}" if address else ""
        yield _UP(nic=name or "an interface", address=has)


_TAKEN = failed(
    "{name} port {ports} is taken{holder}: {reason}",
    "end what listens there, or set another port for {name}",
)
_SOME_TAKEN = _TAKEN._replace(severity=WARNING)
_FREE = ok("free: {ports}")


@check("ports", "ports", "ports_source", _TAKEN, _SOME_TAKEN, _FREE)
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
        message = _SOME_TAKEN if name in here.facts["sparse_ports"] else _TAKEN
        yield message(name=name, ports=ranges(taken), holder=holder, reason=reason)
    if not busy:
        words = [f"{n} {a}-{b}" if b > a else f"{n} {a}" for n, (a, b) in spans.items()]
        yield _FREE(ports=", ".join(words) or "none needed")


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


_NO_SHM = failed("there is no /dev/shm", "give docker run --shm-size=16g")
_LITTLE = failed(
    "{total} MiB is too little for {workers} workers", "give docker run --shm-size={advised}g"
)
_LESS = warning("{total} MiB is less than {wanted} MiB", "give docker run --shm-size={advised}g")
_MEMORY = ok("{total} MiB")


@check("shared-memory", "/dev/shm", "shared_memory.source", _NO_SHM, _LITTLE, _LESS, _MEMORY)
def shared_memory(here: Inspection) -> Iterator[Finding]:
    """Workers pass messages through /dev/shm; too little of it makes them hang."""
    if not here.machine.exists("/dev/shm"):
        yield _NO_SHM()
        return
    facts, workers = here.facts["shared_memory"], here.needs.devices
    total, wanted = here.machine.size_of("/dev/shm").total // _MIB, facts["advised"]
    if total <= facts["docker_default"] and workers > 1:
        message = _LITTLE
    else:
        message = _LESS if total < wanted else _MEMORY
    yield message(total=total, wanted=wanted, workers=workers, advised=wanted // 1024)


_PAST = warning(
    "{now} is before {earliest}, when files here were made",
    "set the host's clock; otherwise certificates fail and logs mislead",
    "clock",
)
_TIME = ok("{now}")


@check("clock", "clock", "", _PAST, _TIME)
def clock(here: Inspection) -> Iterator[Finding]:
    """No clock can be earlier than the build of the image."""
    import calendar
    import time

    facts = here.facts["clock"]
    earliest = calendar.timegm(time.strptime(facts["not_before"], "%Y-%m-%d"))
    files = [here.machine.stat(path) for path in facts["files"]]
    earliest = max([earliest, *(int(file.st_mtime) for file in files if file)])
    now = here.machine.now()
    message = _PAST if now < earliest - 86400 else _TIME
    day = time.strftime("%Y-%m-%d", time.gmtime(earliest))
    yield message(now=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)), earliest=day)


_ADD_HOST = "put a line `ADDRESS {name}` into /etc/hosts (docker run --add-host {name}:ADDRESS)"
_UNRESOLVED = warning("{name} has no address", _ADD_HOST)
_LOOPBACK = failed(
    "{name} is {address}, which other nodes cannot reach", f"set NIC, or {_ADD_HOST}"
)
_RESOLVED = ok("{name} is {address}")


@check("host-name", "host name", "host_name_source", _UNRESOLVED, _LOOPBACK, _RESOLVED)
def name(here: Inspection) -> Iterator[Finding]:
    """Gloo takes the address of the host's name where no interface is given."""
    own = here.machine.host_name()
    addresses = here.machine.resolve(own)
    given = bool(here.needs.env.get("GLOO_SOCKET_IFNAME"))
    local = [a for a in addresses if re.match(r"127\.", a)]
    if not addresses:
        yield _UNRESOLVED(name=own)
    elif local and here.needs.multi_node and not given:
        yield _LOOPBACK(name=own, address=local[0])
    else:
        yield _RESOLVED(name=own, address=addresses[0])
