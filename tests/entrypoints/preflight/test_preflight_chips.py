"""What npu-smi says of the chips."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrypoints.findings import Finding
from tests.entrypoints.preflight.conftest import Check, FakeMachine


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


@pytest.mark.parametrize("kind", ["a2", "a3"])
def test_the_image_fits(
    kind: str, tmp_path: Path, check: Check, request: pytest.FixtureRequest
) -> None:
    fake = request.getfixturevalue({"a2": "a2", "a3": "fake"}[kind])
    found = by_code(check(fake, "platform"))
    assert found["platform"].severity == "ok"
    assert found["npu-health"].severity == "ok"
    assert found["npu-in-use"].severity == "warning"
    assert "4711 (python3) is on device " in found["npu-in-use"].message


def test_a2_image_on_a3(fake: FakeMachine, check: Check) -> None:
    found = by_code(check(fake, "platform", image="a2"))["platform"]
    assert found.severity == "error"
    assert found.message == "the image is for a2 (ascend910b1), the chips are ascend910_9392"
    assert found.fix == "use the image tagged v0.13.0rc1-a3"


def test_a3_image_on_a2_under_openeuler(a2: FakeMachine, check: Check) -> None:
    a2.write("/etc/os-release", 'NAME="openEuler"\nID="openEuler"\n')
    found = by_code(check(a2, "platform", image="a3"))["platform"]
    assert (found.severity, found.fix) == ("error", "use the image tagged v0.13.0rc1-openeuler")


def test_the_table_is_enough_without_the_board(fake: FakeMachine, check: Check) -> None:
    fake.says("npu-smi", "info", "-t", "board", "-i", "0", "-c", "0", text="", code=1)
    assert by_code(check(fake, "platform"))["platform"].message == "ascend910 is a3"


def test_another_chip(fake: FakeMachine, check: Check) -> None:
    board = "Chip Type : Ascend\nChip Name : 310P3\n"
    fake.says("npu-smi", "info", "-t", "board", "-i", "0", "-c", "0", text=board)
    found = by_code(check(fake, "platform"))["platform"]
    assert (found.severity, found.fix) == ("error", "use the image tagged v0.13.0rc1-310p")
    fake.says("npu-smi", "info", "-t", "board", "-i", "0", "-c", "0", text="Chip Name : X1")
    assert by_code(check(fake, "platform"))["platform"].severity == "warning"


def test_without_npu_smi(fake: FakeMachine, check: Check) -> None:
    fake.remove("/usr/local/bin/npu-smi")
    (found,) = check(fake, "platform")
    assert found.severity == "skipped"
    assert "npu-smi is not here" in found.message


@pytest.mark.parametrize("code", [1, 0, None])
def test_npu_smi_fails(fake: FakeMachine, check: Check, code: int | None) -> None:
    fake.says("npu-smi", "info", text="dcmi module initialize failed. ret is -8005", code=code)
    (found,) = check(fake, "platform")
    assert found.severity == "warning"
    assert "-8005" in found.message


def test_sick_chips_that_are_used(fake: FakeMachine, check: Check) -> None:
    text = fake.machine().run(["npu-smi", "info"], {}, 1).text
    row = "| 1     Ascend910           | OK "
    assert row in text
    fake.says("npu-smi", "info", text=text.replace(row, row.replace("OK ", "Critical "), 1))
    found = by_code(check(fake, "platform"))["npu-health"]
    assert (found.severity, found.message) == ("warning", "device 2 is Critical")
    assert by_code(check(fake, "platform", devices=2))["npu-health"].severity == "ok"


def test_others_on_devices_not_used(fake: FakeMachine, check: Check) -> None:
    assert "npu-in-use" not in by_code(check(fake, "platform", devices=4))
