"""What was published is one image, whoever pulls it: the engine, or skopeo for a node
that reaches no registry."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import NATIVE, Image, building, docker, invoke, remove
from tests.e2e.images.test_publish import Registry

INPUTS = {
    "ROLE": "prefill",
    "RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3",
    "LOCAL_IP": "10.0.0.11",
    "NIC": "eth0",
}


@pytest.fixture
def published(tmp_path: Path, a3: Image) -> Iterator[str]:
    """The A3 image of this machine's architecture in a registry on loopback."""
    registry = Registry(tmp_path / "registry")
    registry.start()
    try:
        what = ("--platform=a3", "--base=stand-in", f"--arch={NATIVE}", "--allow-missing")
        where = f"--registry={registry.host}/team"
        with building():
            answer = invoke("publish", where, *what, "--format=json")
        assert answer.returncode == 0, answer.stderr
        yield f"{registry.host}/team/vllm-ascend:{json.loads(answer.stdout)[0]['tag']}"
    finally:
        registry.kill()
        shutil.rmtree(registry.root / "data", ignore_errors=True)


def test_pulled_by_skopeo_and_by_docker_it_plans_the_same(published: str, tmp_path: Path) -> None:
    carried = "localhost/carried-by-skopeo:a3"
    archive = tmp_path / "image.tar"
    copy = ("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{published}")
    try:
        answer = subprocess.run(
            [*copy, f"oci-archive:{archive}:{carried}"], capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
        docker("load", "--quiet", "--input", str(archive))
        docker("pull", "--quiet", published)
        plans = [
            Image(tag, "", {}).run("plan", "--format", "json", env=INPUTS).stdout
            for tag in (carried, published)
        ]
        assert plans[0] == plans[1]
        assert json.loads(plans[0])["role"] == "prefill"
    finally:
        archive.unlink(missing_ok=True)
        remove(carried, published)
