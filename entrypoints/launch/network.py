"""This node's address and interface: from each other, or from the route to the leader.

The default route is never used: on a host with several interfaces it is often the wrong one
(vllm#42023). IPv4 only (vllm-ascend#4103). Modules are imported where they are needed, because
mostly both variables are given.
"""

from __future__ import annotations

from collections.abc import Callable

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from entrypoints.inputs.settings import Settings

_SIOCGIFCONF = 0x8912
_IFREQ = 40
_MOST = 128


class Address(NamedTuple):
    """The given or found values; None when not found."""

    local_ip: str | None
    nic: str | None


class Host(NamedTuple):
    """What is asked of the machine's network, replaced in tests."""

    addresses: Callable[[], list[tuple[str, str]]]
    source_towards: Callable[[str], str | None]


def _addresses() -> list[tuple[str, str]]:
    """(interface, IPv4 address) pairs, including secondary addresses."""
    try:
        import array
        import fcntl
        import socket
        import struct

        buffer = array.array("B", bytes(_MOST * _IFREQ))
        request = struct.pack("iP", len(buffer), buffer.buffer_info()[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            size = struct.unpack("iP", fcntl.ioctl(sock, _SIOCGIFCONF, request))[0]
    except (ImportError, OSError):
        return []
    found = []
    for at in range(0, size, _IFREQ):
        name, address = struct.unpack_from("16s4x4s", buffer, at)
        nic = name.split(b"\0")[0].decode(errors="replace").partition(":")[0]
        found.append((nic, socket.inet_ntoa(address)))
    return found


def _source_towards(host: str) -> str | None:
    """The address from which this machine would send; connecting UDP sends nothing."""
    import socket

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 9))
            source: str = sock.getsockname()[0]
    except (OSError, UnicodeError):
        return None
    return None if source.startswith("127.") else source


HOST = Host(_addresses, _source_towards)


def find_address(settings: Settings, needed: bool, host: Host, findings: list[Finding]) -> Address:
    """Address and interface, as given or found from each other.

    A missing one that is `needed` and cannot be found is an error. Looks nothing up when nothing
    is needed or given.
    """
    local_ip, nic = settings.local_ip, settings.nic
    if (local_ip and nic) or not (needed or local_ip or nic):
        return Address(local_ip, nic)
    if not local_ip and not nic and settings.leader_ip:
        local_ip = host.source_towards(settings.leader_ip)
    addresses = host.addresses()
    if nic and not local_ip:
        local_ip = next((ip for name, ip in addresses if name == nic), None)
    elif local_ip and not nic:
        nic = next((name for name, ip in addresses if ip == local_ip), None)
    reported = {one.where for one in findings}
    for variable, value in (("LOCAL_IP", local_ip), ("NIC", nic)):
        if needed and not value and variable not in reported:
            have = ", ".join(f"{name} {ip}" for name, ip in addresses if name != "lo") or "none"
            findings.append(finding("no-address", variable=variable, interfaces=have))
    return Address(local_ip, nic)
