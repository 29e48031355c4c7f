"""hccn.conf and hccn_tool."""

from __future__ import annotations

import pytest

from entrypoints.findings import Finding
from tests.entrypoints.preflight.conftest import Check, FakeMachine

TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


def says(fake: FakeMachine, device: int, question: str, text: str, code: int | None = 0) -> None:
    fake.says("hccn_tool", "-i", str(device), f"-{question}", "-g", text=text, code=code)


@pytest.mark.parametrize("kind", ["a2", "fake"])
def test_all_well(kind: str, check: Check, request: pytest.FixtureRequest) -> None:
    fake = request.getfixturevalue(kind)
    found = by_code(check(fake, "fabric"))
    assert {f.severity for f in found.values()} == {"ok"}
    assert ("hccn-address" in found) == (kind == "a2")  # RoCE is A2's only way to other nodes
    assert "it must be 0 on every node" in found["fabric-tls"].message
    assert [f.severity for f in check(fake, "hccn-conf")] == ["ok"]


def test_one_node_needs_none(fake: FakeMachine, check: Check) -> None:
    for code in ("hccn-conf", "fabric"):
        (found,) = check(fake, code, multi_node=False)
        assert found.severity == "skipped"
    assert fake.asked == []


def test_no_hccn_conf(fake: FakeMachine, check: Check) -> None:
    fake.remove("/etc/hccn.conf")
    (found,) = check(fake, "hccn-conf")
    assert (found.severity, found.fix) == (
        "error",
        "give docker run -v /etc/hccn.conf:/etc/hccn.conf:ro",
    )


@pytest.mark.parametrize(("kind", "state"), [("a2", "error"), ("fake", "warning")])
def test_hccn_conf_without_a_device(
    kind: str, state: str, check: Check, request: pytest.FixtureRequest
) -> None:
    fake = request.getfixturevalue(kind)
    fake.write("/etc/hccn.conf", "address_0=192.0.2.10\n")
    (found,) = check(fake, "hccn-conf", devices=4)
    assert found.severity == state
    assert found.message == "/etc/hccn.conf has no address of device 1-3"
    assert [f.severity for f in check(fake, "hccn-conf", devices=1)] == ["ok"]


def test_stale_hccn_conf(a2: FakeMachine, check: Check) -> None:
    a2.write("/etc/hccn.conf", "address_0=192.0.2.10\naddress_1=192.0.2.99\n")
    found = by_code(check(a2, "fabric", devices=2))["hccn-address"]
    assert found.severity == "error"
    assert found.message == "/etc/hccn.conf states 192.0.2.99 for device 1, which has 192.0.2.11"


@pytest.mark.parametrize(("kind", "state"), [("a2", "error"), ("fake", "warning")])
def test_links_down(kind: str, state: str, check: Check, request: pytest.FixtureRequest) -> None:
    fake = request.getfixturevalue(kind)
    for device in (1, 2, 5):
        says(fake, device, "link", "link status: DOWN")
    says(fake, 7, "net_health", "net health status: Fault")
    found = by_code(check(fake, "fabric"))
    assert found["fabric-link"].severity == found["fabric-health"].severity == state
    assert found["fabric-link"].message == "device 1-2, 5 DOWN"
    assert found["fabric-health"].message == "device 7 Fault"
    assert found["fabric-tls"].severity == "ok"


def test_tls_differs(fake: FakeMachine, check: Check) -> None:
    says(fake, 3, "tls", "dev_id:3, tls switch[1](0:disable, 1:enable)")
    found = by_code(check(fake, "fabric"))["fabric-tls"]
    assert found.severity == "error"
    assert found.message == "it differs: 0 on device 0-2, 4-15; 1 on device 3"


def test_a_device_that_does_not_answer(fake: FakeMachine, check: Check) -> None:
    """It is asked once, and hides nothing of the others."""
    says(fake, 4, "link", "gave no answer in 10 s", code=None)
    found = by_code(check(fake, "fabric"))
    assert found["fabric"].severity == "warning"
    assert found["fabric"].message == "hccn_tool of device 4: -link gave no answer in 10 s"
    assert found["fabric-link"].message == "UP on 0-3, 5-15"
    assert len([words for words in fake.asked if words[2] == "4"]) == 1


def test_a_tool_that_says_something_else(fake: FakeMachine, check: Check) -> None:
    for device in range(16):
        for question in ("link", "net_health", "tls"):
            says(fake, device, question, "not supported", code=1)
    assert {f.severity for f in check(fake, "fabric")} == {"skipped"}


def test_without_hccn_tool(fake: FakeMachine, check: Check) -> None:
    fake.remove(TOOL)
    (found,) = check(fake, "fabric")
    assert found.severity == "skipped"
    assert f"-v {TOOL}:{TOOL}" in found.message


def test_only_devices_in_use_are_asked(fake: FakeMachine, check: Check) -> None:
    check(fake, "fabric", visible="2,3", devices=2)
    assert {words[2] for words in fake.asked} == {"2", "3"}
