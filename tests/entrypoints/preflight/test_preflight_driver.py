"""The host's driver in the container."""

from __future__ import annotations

import pytest

from tests.entrypoints.preflight.conftest import Check, FakeMachine

LIB64 = "/usr/local/Ascend/driver/lib64/driver"


@pytest.mark.parametrize(
    ("have", "release", "state"),
    [
        ("25.3.rc1", "v0.13.0rc1", "ok"),
        ("25.2.0", "v0.13.0rc1", "warning"),
        ("25.3.rc1", "v0.13.0", "warning"),
        ("25.5.0", "v0.13.0", "ok"),
        ("26.0.rc1", "v0.13.0", "ok"),
        ("22.0", "v0.11.0", "ok"),  # its documents name none
        ("7.0.t9.0.B798", "v0.13.0", "warning"),
        ("", "v0.13.0", "warning"),
    ],
)
def test_version(fake: FakeMachine, check: Check, have: str, release: str, state: str) -> None:
    fake.write("/usr/local/Ascend/driver/version.info", f"Version={have}\n")
    (found,) = check(fake, "driver-version", release=release)
    assert found.severity == state
    if state == "warning":
        assert found.source.startswith(f"vllm-ascend {release}:")


def test_files_that_are_not_mounted(fake: FakeMachine, check: Check) -> None:
    fake.remove("/usr/local/Ascend/driver/version.info")
    fake.remove("/etc/ascend_install.info")
    for code, path in (
        ("driver-version", "/usr/local/Ascend/driver/version.info"),
        ("driver-install", "/etc/ascend_install.info"),
    ):
        (found,) = check(fake, code)
        assert (found.severity, found.fix) == ("warning", f"give docker run -v {path}:{path}:ro")


def test_install_info_says_where(fake: FakeMachine, check: Check) -> None:
    (found,) = check(fake, "driver-install")
    assert found.message == "/etc/ascend_install.info names /usr/local/Ascend"
    fake.write("/etc/ascend_install.info", "UserName=x\n")
    assert [f.severity for f in check(fake, "driver-install")] == ["warning"]


def test_libraries(fake: FakeMachine, check: Check) -> None:
    assert [f.message for f in check(fake, "driver-libraries")] == [
        f"libascend_hal.so is in {LIB64}"
    ]
    (found,) = check(fake, "driver-libraries", env={"LD_LIBRARY_PATH": "/opt/lib"})
    assert found.severity == "error"
    assert "LD_LIBRARY_PATH leaves out" in found.message
    fake.remove(f"{LIB64}/libascend_hal.so")
    (found,) = check(fake, "driver-libraries")
    assert found.severity == "error"
    assert found.fix.startswith("give docker run -v /usr/local/Ascend/driver/lib64:")


def test_a_stub_is_no_driver(fake: FakeMachine, check: Check) -> None:
    stub = "/usr/local/Ascend/ascend-toolkit/latest/aarch64-linux/devlib"
    fake.remove(f"{LIB64}/libascend_hal.so")
    fake.write(f"{stub}/libascend_hal.so")
    (found,) = check(fake, "driver-libraries", env={"LD_LIBRARY_PATH": stub})
    assert found.severity == "error"
