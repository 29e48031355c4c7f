"""A host, outside any container."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from invoke.exceptions import Exit

from commands import launch
from entrypoints.findings import Finding, Refused
from entrypoints.preflight import doctor
from tests.entrypoints.preflight.conftest import FakeMachine


def run(fake: FakeMachine, platform: str | None = None, **changes: Any) -> doctor.Report:
    return doctor.run(platform, environ={}, machine=fake.machine(), **changes)


def by_code(report: doctor.Report) -> dict[str, Finding]:
    return {found.code: found for found in report.findings}


@pytest.mark.parametrize("kind", ["a2", "fake"])
def test_a_host_is_recognised(kind: str, request: pytest.FixtureRequest) -> None:
    fake = request.getfixturevalue(kind)
    fake.says("docker", "version", "--format", "{{.Server.Version}}", text="27.0.1\n")
    report = run(fake)
    assert not report.failed
    found = by_code(report)
    assert found["platform"].message.endswith(f" is {fake.kind}")
    assert found["devices"].message.startswith(f"{fake.devices} are here")
    assert found["docker"].message == "27.0.1"
    assert {c for c, f in found.items() if f.severity == "skipped"} == {
        "ports",
        "shared-memory",
        "weights",
    }


def test_options_are_what_exists(fake: FakeMachine) -> None:
    fake.remove("/dev/davinci7")
    fake.remove("/dev/hisi_hdc")
    options = run(fake).options
    assert "--device /dev/davinci6" in options
    assert "--device /dev/davinci7" not in options
    assert "--device /dev/hisi_hdc" not in options
    assert "-v /etc/hccn.conf:/etc/hccn.conf:ro" in options
    assert not [o for o in options if "dcmi" in o]
    assert "--shm-size=16g" in options


def test_fewer_devices_than_the_platform_has(fake: FakeMachine) -> None:
    fake.remove("/dev/davinci7")
    found = by_code(run(fake))["devices"]
    assert found.severity == "warning"
    assert found.message == "15 are here (0-6, 8-15), but Atlas 800 A3 has 16"


def test_what_only_several_nodes_need_is_a_warning(fake: FakeMachine) -> None:
    fake.remove("/etc/hccn.conf")
    report = run(fake)
    assert by_code(report)["hccn-conf"].severity == "warning"
    assert not report.failed


def test_another_platform_than_asked_for(fake: FakeMachine) -> None:
    report = run(fake, "a2", release="v0.13.0")
    assert report.failed
    assert by_code(report)["platform"].fix == "use the image tagged v0.13.0-a3"


def test_no_npus(fake: FakeMachine) -> None:
    for n in range(16):
        fake.remove(f"/dev/davinci{n}")
    report = run(fake)
    assert [f.code for f in report.findings if f.severity == "error"] == ["devices"]
    assert report.options == []


def test_no_network_and_no_engine(fake: FakeMachine) -> None:
    fake.addresses = [("lo", "127.0.0.1")]
    found = by_code(run(fake))
    assert found["nic"].severity == found["docker"].severity == "warning"


def test_text_and_json(fake: FakeMachine) -> None:
    report = run(fake)
    assert "  -v /etc/hccn.conf:/etc/hccn.conf:ro" in report.text()
    assert json.loads(json.dumps(report.as_data()))["docker_options"] == report.options


def test_unknown_names() -> None:
    with pytest.raises(Refused) as refused:
        doctor.run("a9", "v9", {})
    assert [p.where for p in refused.value.findings] == ["ASCEND_PLATFORM", "VLLM_ASCEND_RELEASE"]


def test_the_task(
    monkeypatch: pytest.MonkeyPatch, fake: FakeMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    real: Callable[..., doctor.Report] = doctor.run
    monkeypatch.setattr(doctor, "run", lambda *chosen: real(*chosen, {}, fake.machine()))
    launch.doctor(platform="a3", format="json")
    assert json.loads(capsys.readouterr().out)["failed"] is False
    with pytest.raises(Exit) as left:
        launch.doctor(platform="a2")
    assert left.value.code == 78
    assert "failed   platform: " in capsys.readouterr().out


def test_the_task_with_an_unknown_platform(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit) as left:
        launch.doctor(platform="a9")
    assert left.value.code == 64
    assert "no facts about 'a9'" in capsys.readouterr().err
