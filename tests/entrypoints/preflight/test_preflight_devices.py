"""Device nodes, their numbers, and who may use them."""

from __future__ import annotations

import pytest

from entrypoints.findings import Finding
from entrypoints.preflight.machine import User
from tests.entrypoints.preflight.conftest import Check, FakeMachine


def states(findings: list[Finding]) -> list[str]:
    return [finding.severity for finding in findings]


def test_enough(fake: FakeMachine, check: Check) -> None:
    (found,) = check(fake, "devices")
    assert found.severity == "ok"
    assert "16 are here (0-15)" in found.message


def test_too_few_are_named(fake: FakeMachine, check: Check) -> None:
    for n in (3, 4, 9):
        fake.remove(f"/dev/davinci{n}")
    (found,) = check(fake, "devices")
    assert found.severity == "error"
    assert found.message == "13 of the 16 needed are here: 0-2, 5-8, 10-15"
    assert states(check(fake, "devices", devices=13)) == ["ok"]
    assert states(check(fake, "devices", devices=14)) == ["error"]


def test_none_gives_the_docker_options(fake: FakeMachine, check: Check) -> None:
    for n in range(16):
        fake.remove(f"/dev/davinci{n}")
    (found,) = check(fake, "devices")
    assert found.severity == "error"
    for option in ("--device /dev/davinci15", "--device /dev/hisi_hdc", "/etc/hccn.conf:ro"):
        assert option in found.fix
    assert "/dev/davinci16" not in found.fix


def test_control_devices_missing(fake: FakeMachine, check: Check) -> None:
    fake.remove("/dev/devmm_svm")
    (found,) = check(fake, "control-devices")
    assert (found.severity, found.fix) == ("error", "give docker run --device /dev/devmm_svm")


@pytest.mark.parametrize(
    ("visible", "devices", "state", "words"),
    [
        (None, 16, "ok", "not set"),
        ("0,1", 2, "ok", "0,1"),
        ("14, 15", 2, "ok", "14, 15"),
        ("0,1", 4, "error", "2 devices, 4 are needed"),
        ("0,16", 2, "error", "16 of 0,16 is not here"),
        ("0,0", 2, "error", "twice"),
        ("all", 2, "error", "not a list of numbers"),
    ],
)
def test_visible_devices(
    fake: FakeMachine, check: Check, visible: str | None, devices: int, state: str, words: str
) -> None:
    (found,) = check(fake, "visible-devices", visible=visible, devices=devices)
    assert found.severity == state
    assert words in found.message


def test_numbers_of_the_host_are_a_warning(fake: FakeMachine, check: Check) -> None:
    """With the host's devices 8 to 15 alone, 8 and 9 are beyond what CANN counts, though there."""
    for n in range(8):
        fake.remove(f"/dev/davinci{n}")
    assert states(check(fake, "device-access", visible="8,9", devices=2)) == ["ok"]
    (found,) = check(fake, "visible-devices", visible="8,9", devices=2)
    assert (found.severity, found.fix) == (
        "warning",
        "number the container's devices from 0: 0 to 7",
    )


def test_group_is_named_for_another_user(fake: FakeMachine, check: Check) -> None:
    fake.user = User(1000, frozenset({1000}))
    fake.closed = {f"/dev/davinci{n}" for n in range(16)}
    gid = fake.path("/dev/davinci0").stat().st_gid
    (found,) = check(fake, "device-access")
    assert found.severity == "error"
    assert found.message == "user 1000 may not use /dev/davinci0 and 15 more"
    assert found.fix == f"give docker run --group-add {gid}"


def test_a_device_that_is_not_given_to_the_container(fake: FakeMachine, check: Check) -> None:
    fake.closed = {"/dev/davinci1"}
    (found,) = check(fake, "device-access")
    assert (found.severity, found.fix) == ("error", "give docker run --device /dev/davinci1")
    assert states(check(fake, "device-access", devices=1)) == ["ok"]


def test_an_account_for_hccl(fake: FakeMachine, check: Check) -> None:
    assert states(check(fake, "account")) == ["ok"]
    fake.user = User(1000, frozenset())
    assert states(check(fake, "account")) == ["error"]
    assert states(check(fake, "account", devices=1)) == ["ok"]
