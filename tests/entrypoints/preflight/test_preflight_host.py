"""The host's network, ports, shared memory, clock and name."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from entrypoints.findings import Finding
from entrypoints.preflight.machine import MACHINE, Space
from tests.entrypoints.preflight.conftest import Check, FakeMachine

MIB = 1 << 20


def one(findings: list[Finding]) -> Finding:
    (found,) = findings
    return found


def test_nic(fake: FakeMachine, check: Check) -> None:
    assert one(check(fake, "nic")).severity == "ok"
    assert one(check(fake, "nic", nic=None, local_ip=None)).severity == "skipped"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nic": "eth9"}, "there is no eth9"),
        ({"local_ip": "192.0.2.77"}, "no interface has LOCAL_IP 192.0.2.77"),
        ({"nic": "eth1"}, "eth1 does not have LOCAL_IP 192.0.2.1"),
        ({"nic": "eth2", "local_ip": None}, "eth2 is down"),
        ({"nic": None, "local_ip": "192.0.2.77"}, "no interface has LOCAL_IP 192.0.2.77"),
    ],
)
def test_nic_is_wrong(
    fake: FakeMachine, check: Check, changes: dict[str, Any], message: str
) -> None:
    fake.write("/sys/class/net/eth1/operstate", "unknown\n")
    fake.write("/sys/class/net/eth2/operstate", "down\n")
    found = one(check(fake, "nic", **changes))
    assert (found.severity, found.message) == ("error", message)
    if "down" not in message:
        assert "eth0 192.0.2.1" in found.fix


def test_ports(fake: FakeMachine, check: Check) -> None:
    found = one(check(fake, "ports"))
    assert found.message == "free: api 8000, kv 36000-36015, adxl 20000-20099"
    fake.taken = {8000: "Address already in use", 20007: "Address already in use"}
    api, adxl = check(fake, "ports")
    assert (api.severity, api.message) == (
        "error",
        "api port 8000 is taken: Address already in use",
    )
    assert (adxl.severity, "20007" in adxl.message) == ("warning", True)


def test_who_holds_a_port(fake: FakeMachine, check: Check) -> None:
    table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
    table += "  timeout inode\n"
    table += "   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4242"
    fake.write("/proc/net/tcp", table + "\n")
    fake.write("/proc/77/comm", "python3\n")
    fake.path("/proc/77/fd").mkdir()
    fake.path("/proc/77/fd/3").symlink_to("socket:[4242]")
    fake.taken = {8000: "Address already in use"}
    assert "taken by process 77 (python3): " in one(check(fake, "ports")).message


def test_a_real_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert MACHINE.taken(port)
        listener.listen()
        assert MACHINE.taken(port)
    assert MACHINE.taken(port) is None


@pytest.mark.parametrize(
    ("size", "devices", "state"),
    [(64, 16, "error"), (64, 1, "warning"), (1024, 16, "warning"), (16384, 16, "ok")],
)
def test_shared_memory(
    fake: FakeMachine, check: Check, size: int, devices: int, state: str
) -> None:
    fake.space["/dev/shm"] = Space(size * MIB, size * MIB)
    found = one(check(fake, "shared-memory", devices=devices))
    assert found.severity == state
    assert str(size) in found.message
    if state != "ok":
        assert found.fix == "give docker run --shm-size=16g"


def test_clock(fake: FakeMachine, check: Check) -> None:
    assert one(check(fake, "clock")).message == "2026-03-01 12:00 UTC"
    fake.now = 0
    found = one(check(fake, "clock"))
    assert found.severity == "warning"
    assert found.message.startswith("1970-01-01 00:00 UTC is before 2025-12-17")


def test_clock_before_the_image(fake: FakeMachine, check: Check) -> None:
    import os

    os.utime(fake.write("/etc/ld.so.cache"), (fake.now + 10 * 86400,) * 2)
    assert one(check(fake, "clock")).severity == "warning"


def test_host_name(fake: FakeMachine, check: Check) -> None:
    assert one(check(fake, "host-name")).severity == "ok"
    fake.names["node"] = ["127.0.1.1"]
    assert one(check(fake, "host-name")).severity == "error"
    assert one(check(fake, "host-name", env={"GLOO_SOCKET_IFNAME": "eth0"})).severity == "ok"
    assert one(check(fake, "host-name", multi_node=False)).severity == "ok"
    del fake.names["node"]
    assert one(check(fake, "host-name")).severity == "warning"
