"""A machine made of a folder, answers and words of the driver's tools."""

from __future__ import annotations

import calendar
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrypoints.findings import Finding
from entrypoints.inputs import stack
from entrypoints.messages import messages
from entrypoints.preflight import CHECKS, examine
from entrypoints.preflight.inspection import Needs, inspect
from entrypoints.preflight.machine import Machine, Output, Space, User
from tests.entrypoints import known_facts
from tests.entrypoints.templates import is_made_by

FIXTURES = Path(__file__).parent / "fixtures"
GIB = 1 << 30
MESSAGES = messages("machine").values()
NOW = calendar.timegm((2026, 3, 1, 12, 0, 0))
LIB64 = "/usr/local/Ascend/driver/lib64/driver"
HCCN_TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text()


class FakeMachine:
    """A healthy machine of a platform; a test breaks what it is about."""

    def __init__(self, root: Path, platform: str = "a3") -> None:
        self.root = root
        self.kind = platform
        self.devices = {"a2": 8, "a3": 16}[platform]
        self.said: dict[tuple[str, ...], Output] = {}
        self.asked: list[tuple[str, ...]] = []
        self.taken: dict[int, str] = {}
        self.addresses = [("lo", "127.0.0.1"), ("eth0", "192.0.2.1")]
        self.names = {"node": ["192.0.2.1"]}
        self.user = User(0, frozenset({0}))
        self.now = float(NOW)
        self.space = {"/dev/shm": Space(32 * GIB, 32 * GIB)}
        self.closed: set[str] = set()
        for name in [f"davinci{n}" for n in range(self.devices)]:
            self.write(f"/dev/{name}")
        for name in ("davinci_manager", "devmm_svm", "hisi_hdc", "shm/x"):
            self.write(f"/dev/{name}")
        for path in ("/usr/local/bin/npu-smi", HCCN_TOOL, f"{LIB64}/libascend_hal.so"):
            self.write(path)
        self.write("/usr/local/Ascend/driver/version.info", fixture("version.info"))
        self.write("/etc/ascend_install.info", fixture("ascend_install.info"))
        lines = [f"address_{n}=192.0.2.{10 + n}\nnetmask_{n}=255.255.255.0" for n in range(16)]
        self.write("/etc/hccn.conf", "\n".join(lines))
        self.write("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
        self.write("/sys/class/net/eth0/operstate", "up\n")
        self.weights("/weights", 2)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, content: str | bytes = "") -> Path:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def remove(self, path: str) -> None:
        self.path(path).unlink()

    def weights(self, folder: str, shards: int) -> None:
        """A complete model: config, index and shards as long as their headers say."""
        names = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
        for name in names:
            self.write(f"{folder}/{name}", safetensors(16))
        index = {"weight_map": {f"w{n}": name for n, name in enumerate(names)}}
        self.write(f"{folder}/model.safetensors.index.json", json.dumps(index))
        self.write(f"{folder}/config.json", "{}")

    def says(self, *words: str, text: str, code: int | None = 0) -> None:
        """What a command answers, by its words after the tool's path."""
        self.said[words] = Output(code, text)

    def machine(self) -> Machine:
        return Machine(
            run=self._run,
            taken=self.taken.get,
            addresses=lambda: self.addresses,
            resolve=lambda name: self.names.get(name, []),
            host_name=lambda: "node",
            user=lambda: self.user,
            now=lambda: self.now,
            space=lambda path: self.space.get(self._inside(path), Space(100 * GIB, 50 * GIB)),
            accessible=lambda path, mode: self._inside(path) not in self.closed,
            root=str(self.root),
        )

    def _inside(self, path: str) -> str:
        return path.removeprefix(str(self.root))

    def _run(self, argv: Any, env: Any, timeout: float) -> Output:
        words = (Path(argv[0]).name, *argv[1:])
        self.asked.append(words)
        if words in self.said:
            return self.said[words]
        if words == ("npu-smi", "info"):
            return Output(0, fixture(f"npu-smi-info.{self.kind}.txt"))
        if words[:4] == ("npu-smi", "info", "-t", "board"):
            return Output(0, fixture(f"npu-smi-board.{self.kind}.txt"))
        if words[0] == "hccn_tool":
            device, question = int(words[2]), words[3].removeprefix("-")
            text = fixture(f"hccn-{question}.txt")
            return Output(0, text.replace("192.0.2.10", f"192.0.2.{10 + device}"))
        return Output(None, "No such file or directory")


def safetensors(size: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


@pytest.fixture
def fake(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


@pytest.fixture
def a2(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path, "a2")


Check = Callable[..., list[Finding]]


def needs_of(fake: FakeMachine, **changes: Any) -> Needs:
    """A launch over several nodes on all devices of the machine."""
    wanted = Needs(
        platform=stack.platform(changes.pop("image", fake.kind), []),
        release=known_facts.release(changes.pop("release", "v0.13.0rc1")),
        devices=fake.devices,
        visible=None,
        multi_node=True,
        local_ip="192.0.2.1",
        nic="eth0",
        ports={"api": 8000, "kv": [36000, 36015], "adxl": [20000, 20099]},
        model="/weights",
        env={"LD_LIBRARY_PATH": f"/opt/lib:{LIB64}", "HOME": "/root"},
    )
    return wanted._replace(**changes)


@pytest.fixture
def check() -> Check:
    """`check(fake, "code")`: the findings of one check, each made by a message of its code."""

    def run_one(fake: FakeMachine, code: str, **changes: Any) -> list[Finding]:
        here = inspect(needs_of(fake, **changes), fake.machine())
        (one,) = [check for check in CHECKS if check.code == code]
        found = list(examine(here, [one]))
        for each in found:
            declared = [one for one in MESSAGES if one.code in (each.code, "any")]
            assert any(is_made_by(each, one._replace(code="")) for one in declared), each
        return found

    return run_one


@pytest.fixture
def needs() -> Callable[..., Needs]:
    return needs_of
