"""A real Ray cluster from the image: head and worker in containers, a recorded vllm on top."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Image, docker
from tests.e2e.entrypoints.test_roles import RECORDER

NETWORK = "ascend-images-ray"
HEAD, WORKER = f"{NETWORK}-head", f"{NETWORK}-worker"
COMMON = {
    "RECIPE": "qwen3-235b-a22b/ray",
    "NIC": "eth0",
    "RAY_ARGS": "--num-cpus=1 --resources='{\"NPU\":16}' --object-store-memory=100000000",
    "CANN_STANDIN": "0",  # the stand-in refuses to serve, and rightly; vllm is recorded here
    "PREFLIGHT": "off",  # there is no NPU
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "CASE": "ray",
}


def logs(name: str) -> str:
    answer = docker("logs", name)
    return answer.stdout + answer.stderr


def running(name: str) -> bool:
    return docker("inspect", "--format", "{{.State.Running}}", name).stdout.strip() == "true"


def until(what: Any, seconds: float, *names: str) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            pytest.fail("\n".join(f"{name}:\n{logs(name)[-3000:]}" for name in names))
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(a3: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Worker first, head later: the order does not matter. Yields where vllm notes its start."""
    folder = tmp_path_factory.mktemp("ray")
    vllm = folder / "vllm"
    vllm.write_text(RECORDER)
    vllm.chmod(0o755)
    record = folder / "record"
    record.mkdir()

    def run(name: str, *flags: str, **env: str) -> None:
        options = [f"--env={key}={value}" for key, value in {**COMMON, **env}.items()]
        mounts = ["-v", f"{vllm}:/opt/vllm/bin/vllm:ro", "-v", f"{record}:/record"]
        where = ["--network", NETWORK, "--name", name, "--shm-size=256m"]
        docker("run", "-d", *where, *options, *mounts, a3.tag, *flags)

    docker("rm", "-f", HEAD, WORKER, check=False)
    docker("network", "rm", NETWORK, check=False)
    docker("network", "create", NETWORK)
    try:
        run(WORKER, ROLE="ray-worker", LEADER_IP=HEAD)
        until(lambda: "the Ray head" in logs(WORKER), 120, WORKER)
        run(HEAD, "--port", "8000", ROLE="ray-head")
        yield record
    finally:
        docker("rm", "-f", HEAD, WORKER, check=False)
        docker("network", "rm", NETWORK, check=False)


def test_head_serves_once_the_cluster_is_complete(cluster: Path) -> None:
    until(lambda: (cluster / "ray.json").exists(), 120, HEAD, WORKER)
    text = logs(HEAD)
    assert text.index("ray: 32 NPUs are available") < text.index("start: role ray-head")
    call = json.loads((cluster / "ray.json").read_text())
    argv = " ".join(call["argv"])
    assert "serve Qwen/Qwen3-235B-A22B" in argv
    assert "--distributed-executor-backend ray" in argv
    assert call["env"]["RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"] == "1"
    assert call["env"]["HCCL_IF_IP"] == call["env"]["VLLM_HOST_IP"]
    assert running(WORKER)


def test_health_of_both(cluster: Path) -> None:
    for name in (HEAD, WORKER):
        answer = docker("exec", name, "/opt/vllm/bin/entrypoint", "health", check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert answer.stdout.startswith("ready")


def test_worker_leaves_when_the_head_is_gone(cluster: Path) -> None:
    docker("rm", "-f", HEAD)
    until(lambda: not running(WORKER), 180, WORKER)
    code = docker("inspect", "--format", "{{.State.ExitCode}}", WORKER).stdout.strip()
    assert code != "0"
