"""The image looks at its machine: device nodes, tools and files of a host are stand-ins here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.e2e.conftest import Image, docker

FIXTURES = ROOT / "tests" / "entrypoints" / "preflight" / "fixtures"
DRIVER = "/usr/local/Ascend/driver"
PREFILL = {
    "ROLE": "prefill",
    "RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3",
    "MODEL": "/weights",
    "NIC": "eth0",
}
NPU_SMI = """\
#!/bin/sh
case "$*" in
  info) cat /fixtures/npu-smi-info.a3.txt ;;
  "info -t board"*) cat /fixtures/npu-smi-board.a3.txt ;;
  *) exit 1 ;;
esac
"""
HCCN_TOOL = '#!/bin/sh\ncat "/fixtures/hccn-${3#-}.txt"\n'


class Host:
    """What `docker run` takes from a host: container path → file, to be changed by a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = ["--shm-size=16g"]
        self.mounts: dict[str, Path] = {"/fixtures": FIXTURES}
        for name in [f"davinci{n}" for n in range(16)]:
            self.give(f"/dev/{name}")
        for name in ("davinci_manager", "devmm_svm", "hisi_hdc"):
            self.give(f"/dev/{name}")
        self.give("/usr/local/bin/npu-smi", NPU_SMI)
        self.give(f"{DRIVER}/tools/hccn_tool", HCCN_TOOL)
        self.give(f"{DRIVER}/lib64/driver/libascend_hal.so")
        for name in ("version.info", "ascend_install.info"):
            path = f"{DRIVER}/{name}" if name == "version.info" else f"/etc/{name}"
            self.mounts[path] = FIXTURES / name
        lines = [f"address_{n}=192.0.2.{10 + n}\n" for n in range(16)]
        self.give("/etc/hccn.conf", "".join(lines))
        header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
        model = len(header).to_bytes(8, "little") + header + b"\0"
        self.give("/weights/config.json", "{}")
        self.give("/weights/model.safetensors", model)

    def give(self, path: str, content: str | bytes = "") -> Path:
        file = self.folder / path.strip("/").replace("/", "_")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(0o666 if path.startswith("/dev/") else 0o755)
        self.mounts[path] = file
        return file

    def run(self, image: Image, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        options = [*self.options]
        for path, file in self.mounts.items():
            options.append(f"-v={file}:{path}{'' if path.startswith('/dev/') else ':ro'}")
        options += [f"--env={name}={value}" for name, value in env.items()]
        return docker("run", "--rm", *options, image.tag, *command, check=False)

    def findings(self, image: Image, code: int, **env: str) -> dict[str, Any]:
        """Code → finding; the command ends with `code`."""
        answer = self.run(image, "preflight", "--format", "json", **{**PREFILL, **env})
        assert answer.returncode == code, answer.stdout + answer.stderr
        assert "Traceback" not in answer.stderr
        document = json.loads(answer.stdout)
        assert document["failed"] == (code != 0)
        return {finding["code"]: finding for finding in document["findings"]}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_machine_that_fits(a3: Image, host: Host) -> None:
    found = host.findings(a3, 0)
    assert not [one for one in found.values() if one["state"] in ("failed", "skipped")]
    assert found["platform"]["message"] == "ascend910_9392 is a3"
    assert found["fabric-link"]["message"] == "UP on 0-15"
    assert found["shared-memory"]["message"] == "16384 MiB"


def test_a_bare_container(a3: Image, host: Host) -> None:
    """Without a device nothing that depends on one is said; the rest is."""
    host.mounts = {}
    host.options = []
    found = host.findings(a3, 78)
    failed = {code for code, one in found.items() if one["state"] == "failed"}
    assert failed == {"devices", "shared-memory", "weights"}
    assert "--device /dev/davinci15" in found["devices"]["fix"]
    assert found["platform"]["state"] == "skipped"


def test_what_is_missing_is_named(a3: Image, host: Host) -> None:
    for path in ("/dev/davinci3", "/etc/hccn.conf", f"{DRIVER}/lib64/driver/libascend_hal.so"):
        del host.mounts[path]
    found = host.findings(a3, 78)
    assert found["devices"]["message"].startswith("15 of the 16 needed are here: 0-2, 4-15")
    assert found["hccn-conf"]["fix"] == "give docker run -v /etc/hccn.conf:/etc/hccn.conf:ro"
    assert found["driver-libraries"]["state"] == "failed"


def test_the_wrong_platform(a3: Image, host: Host) -> None:
    host.give("/usr/local/bin/npu-smi", NPU_SMI.replace(".a3.", ".a2."))
    found = host.findings(a3, 78)
    assert found["platform"]["state"] == "failed"
    assert found["platform"]["fix"] == "use the image tagged v0.13.0rc1"


def test_another_user(a3: Image, host: Host) -> None:
    device = host.mounts["/dev/davinci0"]
    device.chmod(0o660)
    host.options += ["--user=12345:12345"]
    found = host.findings(a3, 78)
    assert found["device-access"]["fix"] == f"give docker run --group-add {device.stat().st_gid}"
    assert found["account"]["state"] == "failed"


@pytest.mark.parametrize(("mode", "code"), [("enforce", 78), ("warn", 0), ("off", 0)])
def test_what_a_failed_check_does(a3: Image, host: Host, mode: str, code: int) -> None:
    host.give("/opt/vllm/bin/vllm", "#!/bin/sh\necho served\n")
    del host.mounts["/dev/davinci3"]
    del host.mounts["/weights/config.json"]
    # The stand-in refuses to serve, and rightly; here nothing is served by it.
    answer = host.run(a3, **PREFILL, PREFLIGHT=mode, CANN_STANDIN="0")
    assert answer.returncode == code, answer.stderr
    assert ("served" in answer.stdout) == (code == 0)
    said = [line for line in answer.stderr.splitlines() if "of the 16 needed" in line]
    assert len(said) == (mode != "off")
    assert ("no config.json" in answer.stderr) == (mode != "off")
    if said:
        assert said[0].startswith("error: " if mode == "enforce" else "warning: ")
