"""All checks together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entrypoints import plan as launch
from entrypoints import preflight
from entrypoints.findings import MACHINE as CODE
from entrypoints.launch.network import Host
from entrypoints.messages import messages
from entrypoints.preflight import report
from entrypoints.preflight.inspection import Needs
from entrypoints.preflight.machine import MACHINE
from tests.entrypoints.preflight.conftest import FakeMachine


def test_every_check_has_messages() -> None:
    machine = messages("machine").values()
    for check in preflight.CHECKS:
        severities = {one.severity for one in machine if one.code == check.code}
        assert "ok" in severities or check.code == "fabric", check.code
        assert severities & {"error", "warning"}, check.code
    for one in machine:
        assert bool(one.fix) == (one.severity in ("error", "warning"))
        assert one.where or one.code == "any"


def test_a_machine_that_fits(fake: FakeMachine, needs: Callable[..., Needs]) -> None:
    found = preflight.run(needs(fake), fake.machine())
    assert not report.failed(found)
    assert {f.code for f in found if f.severity != "ok"} == {"npu-in-use"}
    assert {check.code for check in preflight.CHECKS} - {f.code for f in found} == {"fabric"}


def test_without_npus_one_thing_is_said(fake: FakeMachine, needs: Callable[..., Needs]) -> None:
    for n in range(16):
        fake.remove(f"/dev/davinci{n}")
    found = preflight.run(needs(fake), fake.machine())
    assert [f.code for f in found if f.severity == "error"] == ["devices"]
    skipped = {f.code for f in found if f.severity == "skipped"}
    assert skipped == {c.code for c in preflight.CHECKS if c.npu} - {"devices"}
    assert fake.asked == []


def test_a_role_without_npus(fake: FakeMachine, needs: Callable[..., Needs]) -> None:
    found = preflight.run(needs(fake, devices=0, model=""), fake.machine())
    assert {f.message for f in found if f.code in ("devices", "fabric")} == {
        "this role uses no NPU"
    }
    assert not report.failed(found)


BREAKS = ["run", "taken", "addresses", "resolve", "user", "now", "space", "accessible"]


@pytest.mark.parametrize("question", BREAKS)
def test_a_check_that_breaks_hides_no_other(
    fake: FakeMachine, needs: Callable[..., Needs], question: str
) -> None:
    @dataclass
    class Broken:
        def __call__(self, *_: object) -> None:
            raise PermissionError(13, "no")

    broken_machine: Any = {question: Broken()}
    found = preflight.run(needs(fake), fake.machine()._replace(**broken_machine))
    broken = [f for f in found if f.severity == "error"]
    assert broken
    assert {f.message for f in broken} == {"cannot be checked: PermissionError: [Errno 13] no"}
    codes = {f.code for f in found}
    assert {c.code for c in preflight.CHECKS} - codes <= {"fabric"}


def test_findings_as_problems_text_and_json(fake: FakeMachine, needs: Callable[..., Needs]) -> None:
    fake.remove("/etc/hccn.conf")
    found = preflight.run(needs(fake), fake.machine())
    (bad,) = [f for f in found if f.severity == "error"]
    assert bad.exit_code == CODE
    lines = report.text(found).splitlines()
    assert f"failed   {bad.line()}" in lines
    assert lines[-1] == f"{len(found) - 2} ok, 1 warning, 1 failed, 0 skipped"
    document = json.loads(json.dumps(report.as_data(found)))
    assert document["failed"] is True
    assert document["findings"][found.index(bad)]["fix"] == bad.fix


def test_control_characters_stay_out_of_the_text(
    fake: FakeMachine, needs: Callable[..., Needs]
) -> None:
    fake.names["node"] = ["127.0.0.1\x1b[31m\n"]
    found = preflight.run(needs(fake, env={"GLOO_SOCKET_IFNAME": "x"}), fake.machine())
    text = report.text(found)
    assert "\x1b" not in text
    assert len(text.splitlines()) == len(found) + 1


def test_needs_of_a_launch() -> None:
    host = Host(lambda: [("eth0", "192.0.2.1")], lambda to: "192.0.2.1")
    environ = {
        "ROLE": "prefill",
        "RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3",
        "MODEL": "/weights",
        "NIC": "eth0",
        "ASCEND_PLATFORM": "a3",
    }
    planned = launch.plan(environ, (), host)
    needs = preflight.needs(planned, planned.environment(environ))
    assert (needs.devices, needs.multi_node, needs.model) == (16, True, "/weights")
    assert needs.platform
    assert (needs.local_ip, needs.nic, needs.platform.name) == ("192.0.2.1", "eth0", "a3")
    assert needs.env["HCCL_IF_IP"] == "192.0.2.1"
    assert "kv" in needs.ports


def test_this_very_machine(tmp_path: Path) -> None:
    """The real questions; nothing raises, wherever the tests run."""
    environ = {"ROLE": "single", "MODEL": str(tmp_path), "PATH": os.environ["PATH"]}
    planned = launch.plan(environ)
    found = preflight.run(preflight.needs(planned, environ))
    assert next(f for f in found if f.code == "weights").severity == "error"
    assert not [f for f in found if f.message.startswith("cannot be checked")]


def test_commands_have_a_limit(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"]}
    began, pid = time.monotonic(), tmp_path / "pid"
    slow = MACHINE.run(["sh", "-c", f"echo $$ > {pid}; exec sleep 60"], env, 0.5)
    assert (slow.code, slow.text) == (None, "gave no answer in 0.5 s")
    assert time.monotonic() - began < 5
    with contextlib.suppress(ChildProcessError):  # reaped already, so it has ended
        _, status = os.waitpid(int(pid.read_text()), 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert MACHINE.run(["/no/such/tool"], env, 1) == (None, "No such file or directory")
    assert MACHINE.run(["sh", "-c", "echo out; echo err >&2; exit 3"], env, 5) == (3, "out\nerr\n")


def test_imports_are_light() -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}; import entrypoints.preflight;"
    heavy = "{'argparse', 'concurrent', 'dataclasses', 'pathlib', 'socket', 'subprocess', 'typing'}"
    code += f"print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
