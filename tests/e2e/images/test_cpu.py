"""The images of platform cpu serve. Takes minutes: not in the default run, `pytest -m cpu` runs it.

One whose torch is PyTorch's build needs a directory with it, from UV_FIND_LINKS or PIP_FIND_LINKS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.locking import slices
from images.locking.index import Wheels
from images.matrix import INDEX, CpuVllm, load
from tests.e2e.conftest import NATIVE, Image, build, docker, image, invoke
from tests.e2e.entrypoints.test_ray import logs, until
from validation.rehearsal.tiny_model import write

CONTAINER = "vllm-on-the-processor"
# A sibling on the same machine may have the other cores.
SMALL = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}

pytestmark = [pytest.mark.e2e, pytest.mark.cpu]


@pytest.fixture(scope="module", params=["0.13.0", "0.32.0"])
def vllm(request: pytest.FixtureRequest) -> CpuVllm:
    return load().cpu_vllm(request.param)


@pytest.fixture(scope="module")
def cpu(vllm: CpuVllm) -> Image:
    options = ["--platform=cpu", f"--vllm={vllm.version}", *wheels(vllm)]
    (built,) = build(*options)
    return image(built)


def wheels(vllm: CpuVllm) -> list[str]:
    """The option of build that a vLLM needs."""
    if vllm.torch_from == INDEX:
        return []
    if not (slices.LOCKS / vllm.lock / NATIVE / "torch.txt").is_file():
        pytest.skip(f"vLLM {vllm.version} has no lock for {NATIVE}")
    for link in Wheels.of(os.environ).find_links:
        if any(Path(link).glob(f"torch-{vllm.torch_version}-cp311-*.whl")):
            return [f"--wheels={link}"]
    pytest.skip(f"no directory of UV_FIND_LINKS or PIP_FIND_LINKS has {vllm.torch_version}")


@pytest.fixture
def served(cpu: Image, tmp_path: Path) -> Iterator[str]:
    """The address of a container that serves a tiny model."""
    model = write(tmp_path / "model")
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
    until(lambda: "Application startup complete" in logs(CONTAINER), 600, CONTAINER)
    answer = invoke("verify", served)
    assert answer.returncode == 0, answer.stdout + logs(CONTAINER)[-2000:]
    assert answer.stdout.rstrip().endswith("all passed")
    health = docker("exec", CONTAINER, "entrypoint", "health")
    assert health.stdout.startswith("ready")
    docker("stop", "--time=30", CONTAINER)
    state = docker("inspect", "--format", "{{.State.ExitCode}}", CONTAINER)
    assert state.stdout.strip() == "0"


def test_the_labels_are_what_is_inside(vllm: CpuVllm, cpu: Image) -> None:
    code = "from importlib.metadata import version; print(version('vllm'), version('torch'))"
    template = (
        '{{index .Config.Labels "ascend.pin.vllm"}} {{index .Config.Labels "ascend.pin.torch"}}'
    )
    labels = docker("image", "inspect", "--format", template, cpu.tag).stdout.split()
    assert labels == [vllm.version, vllm.torch]
    assert cpu.python(code).split() == [f"{vllm.version}+cpu", vllm.torch_version]


def test_torch_computes_and_finds_no_gpu(cpu: Image) -> None:
    code = """
import torch
print(torch.cuda.is_available(), float(torch.linalg.inv(2 * torch.eye(3)).sum()))
try:
    torch.zeros(1, device="cuda")
except (RuntimeError, AssertionError):
    print("unsupported")
"""
    assert cpu.python(code).split()[-3:] == ["False", "1.5", "unsupported"]
