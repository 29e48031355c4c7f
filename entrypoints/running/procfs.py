"""Processes and their connections, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable

from entrypoints.record import NamedTuple

_ESTABLISHED = "01"
_MAPPED = "0000000000000000FFFF0000"  # ::ffff:0:0/96, words in the machine's order
_STARTED = 19  # field 22 of /proc/PID/stat, counted from the state


class Process(NamedTuple):
    """`name`: the kernel's, at most 15 characters. `title`: the command line, or what was set."""

    pid: int
    name: str
    title: str


def processes(root: str = "/proc") -> list[Process]:
    """All visible processes except zombies."""
    found = []
    for entry in os.listdir(root):
        if entry.isdigit():
            stat = _read(f"{root}/{entry}/stat")
            name, _, rest = stat.partition("(")[2].rpartition(")")
            if rest.split()[:1] not in ([], ["Z"], ["X"]):
                title = _read(f"{root}/{entry}/cmdline").replace("\0", " ").strip()
                found.append(Process(int(entry), name, title))
    return found


def started(pid: int, root: str = "/proc") -> int | None:
    """When a process started, in ticks since boot; None when there is no such process."""
    fields = _read(f"{root}/{pid}/stat").rpartition(")")[2].split()
    return int(fields[_STARTED]) if len(fields) > _STARTED else None


def connected_to(pids: Iterable[int], root: str = "/proc") -> set[tuple[str, int]]:
    """(IPv4 address, port) of the remote ends of these processes' established TCP connections."""
    sockets = set[str]()
    for pid in pids:
        try:
            for fd in os.listdir(f"{root}/{pid}/fd"):
                sockets.add(_link(f"{root}/{pid}/fd/{fd}"))
        except OSError:
            continue  # ended meanwhile
    far = set()
    for table in ("tcp", "tcp6"):
        for line in _read(f"{root}/net/{table}").splitlines()[1:]:
            words = line.split()
            if words[3] == _ESTABLISHED and f"socket:[{words[9]}]" in sockets:
                address, _, port = words[2].partition(":")
                far.add((_ipv4(address), int(port, 16)))
    return far


def _ipv4(address: str) -> str:
    """Dotted form of a little-endian hexadecimal IPv4 address, also one mapped into IPv6."""
    if address.startswith(_MAPPED):
        address = address[len(_MAPPED) :]
    if len(address) != 8:
        return address
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
