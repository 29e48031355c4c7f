"""The image of platform cpu serves. Takes minutes: not in the default run, `pytest -m cpu` runs it.

It needs a directory with PyTorch's CPU build that the lock names, from UV_FIND_LINKS or
PIP_FIND_LINKS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import lock
from images.flags import Wheels
from images.matrix import load
from rehearsal.tiny import make
from tests.e2e.conftest import NATIVE, Image, build, docker, image, invoke
from tests.e2e.test_ray import logs, until

ENGINE = "0.32.0"
CONTAINER = "vllm-on-the-processor"
# A sibling on the same machine may have the other cores.
SMALL = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}

pytestmark = [pytest.mark.e2e, pytest.mark.cpu]


@pytest.fixture(scope="module")
def wheels() -> Path:
    path = lock.LOCKS / load().engine(ENGINE).lock / NATIVE / "torch.txt"
    if not path.is_file():
        pytest.skip(f"vLLM {ENGINE} has no lock for {NATIVE}")
    (torch,) = (one for one in lock.parse(path.read_text()) if one.name == "torch")
    for link in Wheels.of(os.environ).find_links:
        if any(Path(link).glob(f"torch-{torch.version}-cp311-*.whl")):
            return Path(link)
    pytest.skip(f"no directory of UV_FIND_LINKS or PIP_FIND_LINKS has torch {torch.version}")


@pytest.fixture(scope="module")
def cpu(wheels: Path) -> Image:
    (built,) = build("--platform=cpu", f"--engine={ENGINE}", f"--wheels={wheels}")
    return image(built)


@pytest.fixture
def served(cpu: Image, tmp_path: Path) -> Iterator[str]:
    """The address of a container that serves a tiny model."""
    model = make(tmp_path / "model")
    options = [f"--env={name}={value}" for name, value in SMALL.items()]
    docker("rm", "-f", CONTAINER, check=False)
    docker(
        *("run", "-d", "--name", CONTAINER, "--shm-size=1g", "-p", "127.0.0.1::8000"),
        *(f"--volume={model}:/model:ro", "--env=ROLE=single", "--env=MODEL=/model", *options),
        *(cpu.tag, "--enforce-eager", "--max-model-len", "1024"),
    )
    try:
        yield f"http://{docker('port', CONTAINER, '8000').stdout.split()[0]}"
    finally:
        docker("rm", "-f", CONTAINER)


def test_it_serves(served: str) -> None:
    until(lambda: "Application startup complete" in logs(CONTAINER), 180, CONTAINER)
    answer = invoke("verify", served)
    assert answer.returncode == 0, answer.stdout + logs(CONTAINER)[-2000:]
    assert answer.stdout.rstrip().endswith("all is well")
    health = docker("exec", CONTAINER, "entrypoint", "health")
    assert health.stdout.startswith("ready")
    docker("stop", "--time=30", CONTAINER)
    state = docker("inspect", "--format", "{{.State.ExitCode}}", CONTAINER)
    assert state.stdout.strip() == "0"


def test_the_labels_are_what_is_inside(cpu: Image) -> None:
    code = "from importlib.metadata import version; print(version('vllm'), version('torch'))"
    template = (
        '{{index .Config.Labels "ascend.pin.vllm"}} {{index .Config.Labels "ascend.pin.torch"}}'
    )
    labels = docker("image", "inspect", "--format", template, cpu.tag).stdout.split()
    assert cpu.python(code).split() == [f"{version}+cpu" for version in labels]
    assert labels[0] == ENGINE
