"""The host: its network, ports, shared memory, clock and name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from entrypoints.preflight.finding import FAILED, WARNING, Finding
from entrypoints.preflight.look import Check, Look, several

_MIB = 1 << 20


def _nic(check: Check, look: Look) -> Iterator[Finding]:
    nic, address = look.needs.nic, look.needs.local_ip
    if not nic and not address:
        yield check.skipped("this node talks to no other")
        return
    source = look.facts["network_source"]
    addresses = look.machine.addresses()
    here = ", ".join(f"{name} {ip}" for name, ip in addresses if name != "lo") or "none"
    fix = f"give docker run --net=host, or set NIC and LOCAL_IP to one of: {here}"
    state = f"/sys/class/net/{nic}/operstate"
    if nic and not look.machine.exists(f"/sys/class/net/{nic}"):
        yield check.failed(f"there is no {nic}", fix, source)
    elif nic and look.machine.exists(state) and look.machine.text(state).strip() == "down":
        yield check.failed(f"{nic} is down", f"ip link set {nic} up, or another NIC", source)
    elif address and address not in [ip for _, ip in addresses]:
        yield check.failed(f"no interface has LOCAL_IP {address}", fix, source)
    elif nic and address and (nic, address) not in addresses:
        yield check.failed(f"{nic} does not have LOCAL_IP {address}", fix, source)
    else:
        yield check.ok(f"{nic or 'an interface'} is up{f' and has {address}' if address else ''}")


def _ports(check: Check, look: Look) -> Iterator[Finding]:
    source = look.facts["ports_source"]
    ranges = {n: p if isinstance(p, list) else [p, p] for n, p in look.needs.ports.items()}
    busy = False
    for name, (first, last) in ranges.items():
        numbers = range(max(first, 1), min(last, 65535) + 1)
        taken = {n: why for n in numbers if (why := look.machine.taken(n))}
        if not taken:
            continue
        busy = True
        holder = _holder(look, min(taken))
        message = f"{name} port {several(taken)} is taken{holder}: {taken[min(taken)]}"
        sparse = name in look.facts["sparse_ports"]
        fix = f"end what listens there, or set another port for {name}"
        state = WARNING if sparse else FAILED
        yield Finding(check.code, state, check.what, message, fix, source)
    if not busy:
        words = [f"{n} {a}-{b}" if b > a else f"{n} {a}" for n, (a, b) in ranges.items()]
        yield check.ok(f"free: {', '.join(words) or 'none needed'}")


def _holder(look: Look, port: int) -> str:
    """` by process 12 (python)`, as far as this process may see others."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not look.machine.exists(table):
            continue
        for line in look.machine.text(table).splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == "0A" and words[1].endswith(f":{port:04X}"):
                inodes.add(f"socket:[{words[9]}]")
    for pid in look.machine.names("/proc") if inodes else ():
        folder = f"/proc/{pid}/fd"
        try:
            links = [look.machine.link(f"{folder}/{fd}") for fd in look.machine.names(folder)]
            if pid.isdigit() and inodes & set(links):
                return f" by process {pid} ({look.machine.text(f'/proc/{pid}/comm').strip()})"
        except OSError:
            continue
    return ""


def _shared_memory(check: Check, look: Look) -> Iterator[Finding]:
    """Workers pass messages through /dev/shm; too little of it makes them hang."""
    facts = look.facts["shared_memory"]
    if not look.machine.exists("/dev/shm"):
        fix = "give docker run --shm-size=16g"
        yield check.failed("there is no /dev/shm", fix, facts["source"])
        return
    total = look.machine.size_of("/dev/shm").total // _MIB
    advised, default = facts["advised"], facts["docker_default"]
    fix = f"give docker run --shm-size={advised // 1024}g"
    if total <= default and look.needs.devices > 1:
        message = f"{total} MiB is too little for {look.needs.devices} workers"
        yield check.failed(message, fix, facts["source"])
    elif total < advised:
        yield check.warning(f"{total} MiB is less than {advised} MiB", fix, facts["source"])
    else:
        yield check.ok(f"{total} MiB")


def _clock(check: Check, look: Look) -> Iterator[Finding]:
    """No clock can be before the image was made."""
    import calendar
    import time

    earliest = calendar.timegm(time.strptime(look.facts["clock"]["not_before"], "%Y-%m-%d"))
    files = [look.machine.stat(path) for path in look.facts["clock"]["files"]]
    earliest = max([earliest, *(int(file.st_mtime) for file in files if file)])
    now = look.machine.now()
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < earliest - 86400:
        day = time.strftime("%Y-%m-%d", time.gmtime(earliest))
        fix = "set the host's clock; certificates fail and logs mislead without"
        yield check.warning(f"{shown} is before {day}, when files here were made", fix, "clock")
    else:
        yield check.ok(shown)


def _name(check: Check, look: Look) -> Iterator[Finding]:
    """Gloo takes the address of the host's name where no interface is given."""
    source, name = look.facts["host_name_source"], look.machine.host_name()
    addresses = look.machine.resolve(name)
    given = bool(look.needs.env.get("GLOO_SOCKET_IFNAME"))
    fix = f"put a line `ADDRESS {name}` into /etc/hosts (docker run --add-host {name}:ADDRESS)"
    local = [a for a in addresses if re.match(r"127\.", a)]
    if not addresses:
        yield check.warning(f"{name} has no address", fix, source)
    elif local and look.needs.multi_node and not given:
        message = f"{name} is {local[0]}, which other nodes cannot reach"
        yield check.failed(message, f"set NIC, or {fix}", source)
    else:
        yield check.ok(f"{name} is {addresses[0]}")


NIC = Check("nic", "network interface", _nic)
PORTS = Check("ports", "ports", _ports)
SHARED_MEMORY = Check("shared-memory", "/dev/shm", _shared_memory)
CLOCK = Check("clock", "clock", _clock)
NAME = Check("host-name", "host name", _name)
