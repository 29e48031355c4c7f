"""--push: what a registry gets, and what is said when it cannot be reached."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import NATIVE, Image, build, building, invoke
from tests.ports import free_port

pytestmark = pytest.mark.usefixtures("cold_build")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry on loopback, gone with the tests."""
    assert shutil.which("docker-registry"), "./setup.sh --dev installs it"
    root = tmp_path_factory.mktemp("registry")
    port = free_port()
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "log": {"level": "error"},
    }
    path = root / "config.yml"
    path.write_text(json.dumps(config))
    server = subprocess.Popen(["docker-registry", "serve", str(path)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(root / "data", ignore_errors=True)


def manifest(registry: str, tag: str) -> tuple[str, dict[str, Any]]:
    """A tag's digest and manifest, as the registry has them."""
    address = f"http://{registry}/v2/vllm-ascend/manifests/{tag}"
    request = urllib.request.Request(address, headers={"Accept": MANIFEST})
    with urllib.request.urlopen(request) as answer:
        return answer.headers["Docker-Content-Digest"], json.load(answer)


def pushed(registry: str) -> list[dict[str, Any]]:
    where = (f"--registry={registry}", "--push", f"--arch={NATIVE}")
    return build("--platform=a2,a3", "--base=stand-in", *where)


def test_two_platforms_are_pushed_and_share_their_layers(registry: str, a3: Image) -> None:
    built = pushed(registry)
    layers = []
    for one in built:
        digest, found = manifest(registry, one["tag"].rpartition(":")[2])
        assert digest == one["digest"]
        assert all(layer["mediaType"].endswith("+zstd") for layer in found["layers"])
        layers.append({layer["digest"] for layer in found["layers"]})
        assert {layer["digest"] for layer in one["layers"]} == layers[-1]
    assert len(layers[0] & layers[1]) == len(layers[0]) - 2  # kernels and vllm-ascend
    assert not any(one["up_to_date"] for one in built)


def test_pushed_again_nothing_is_done(registry: str, a3: Image) -> None:
    assert all(one["up_to_date"] for one in pushed(registry))


def test_a_registry_that_does_not_answer(a3: Image) -> None:
    with building():
        answer = invoke(
            *("build", "--platform=a3", "--base=stand-in", "--push", "--registry=localhost:1")
        )
    assert answer.returncode == 69
    assert "localhost:1/vllm-ascend: does not answer: connection refused" in answer.stderr
    assert "Traceback" not in answer.stderr
