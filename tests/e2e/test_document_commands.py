"""The command blocks of README and docs that need an engine, an endpoint or a registry."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.docs import blocks
from tests.docs.blocks import PATH, SHIMS, Block
from tests.e2e.clusters.test_cluster_up import SERVE, tiny
from tests.e2e.conftest import Image
from tests.e2e.images.test_publish import Registry
from tests.ports import free_port

__all__ = ["tiny"]  # a fixture

TAG = "v0.13.0rc1-a3-standin"
WHAT = ("--platform=a3", "--base=stand-in", "--allow-missing")
RECORDED = ROOT / "tests/validation/endpoint/recorded/serve-0.32.0.json"
# The commands with small images in the place of what a build would make: tests/e2e/invoke_small.py.
INVOKE = """#!/bin/sh
export PYTHONPATH="$ROOT"
exec "$PYTHON" -m tests.e2e.invoke_small "$SMALL" --search-root "$ROOT" "$@"
"""
# A `vllm` whose benchmarks end at once with a recorded result.
BENCH = """#!{python}
import json, shutil, sys
words = sys.argv
if "--version" in words:
    print("0.13.0+empty")
elif "--result-dir" in words:
    shutil.copy({recorded!r}, words[words.index("--result-dir") + 1] + "/result.json")
else:
    result = {{"avg_latency": 1.0, "latencies": [1.0], "percentiles": {{"50": 1.0, "99": 1.0}}}}
    with open(words[words.index("--output-json") + 1], "w") as file:
        json.dump(result, file)
"""
# A cluster of a container that an engine can tell to be healthy.
UP = """
name: {name}
platform: a3
nic: lo
image: {image}
model: /model
nodes: {{here: 127.0.0.1}}
instances:
  single: {{nodes: [here], sizes: {{tp: 1}}, command: [/bin/sh, -c, {serve}]}}
"""


def of(*kinds: str) -> list[object]:
    return [pytest.param(one, id=one.name) for one in blocks.all_blocks(*kinds)]


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# ---- an image ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("plan"))
def test_a_block_for_hosts_with_npus_as_the_image_plans_it(block: Block, a3: Image) -> None:
    docker = shutil.which("docker")
    assert docker
    environ = {"PATH": f"{SHIMS}:{PATH}", "DOCKER": docker, "IMAGES": "1"}
    blocks.run(block, ROOT, environ)


@pytest.mark.parametrize("block", of("image"))
def test_a_block_for_an_image(block: Block, a3: Image, tmp_path: Path) -> None:
    blocks.run(block, tmp_path, {})


# ---- an engine and an endpoint -------------------------------------------------------------------


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The recorded engine on this machine, serving under the recipe's name."""
    port = free_port()
    command = [sys.executable, "validation/recorded/vllm", "serve", "qwen3", "--port", str(port)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}  # the image has the entrypoint elsewhere
    server = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(900):  # it comes within seconds; a busy machine takes its time
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except OSError:
                assert server.poll() is None, "the recorded engine ended"
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.parametrize("block", of("engine"))
def test_a_block_for_an_engine(
    block: Block, a3: Image, endpoint: str, tiny: str, tmp_path: Path
) -> None:
    directory = blocks.scratch(tmp_path / "project", fresh=False)
    program(tmp_path / "bin/vllm", BENCH.format(python=sys.executable, recorded=str(RECORDED)))
    (directory / "up.yaml").write_text(
        UP.format(name=f"documents-{os.getpid()}", image=tiny, serve=json.dumps(SERVE))
    )
    (directory / "out").mkdir()
    environ = {"ENDPOINT": endpoint, "PATH": f"{tmp_path / 'bin'}:{PATH}"}
    blocks.run(block, directory, environ)


# ---- a registry ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A registry with signed small images, and the environment in which the blocks see it."""
    root = tmp_path_factory.mktemp("documents")
    registry = Registry(root / "registry")
    registry.start()
    program(root / "bin/invoke", INVOKE)
    environ = {
        "REGISTRY": registry.host,
        "SMALL": str(root / "small"),
        "ROOT": str(ROOT),
        "PYTHON": sys.executable,
        "COSIGN_PASSWORD": "",
        "KEYS": str(root / "keys"),
        "PATH": f"{root / 'bin'}:{PATH}",
    }
    (root / "keys").mkdir()
    whole = {**os.environ, **environ}
    subprocess.run(
        ["cosign", "generate-key-pair"], cwd=root / "keys", env=whole, check=True, timeout=60
    )
    signed = [f"--key={root / 'keys/cosign.key'}", "--no-transparency-log"]
    for team, how in (("unsigned", []), ("staging", signed), ("team", signed)):
        command = ["invoke", "publish", f"--registry={registry.host}/{team}", *WHAT]
        command += [*how, "--format=json"]
        done = subprocess.run(
            [str(root / "bin/invoke"), *command[1:]], env=whole, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (made,) = json.loads(done.stdout)
    _, index = registry.manifest("team/vllm-ascend", made["digest"])
    environ["DIGEST"] = made["digest"]
    environ["MANIFEST"] = index["manifests"][0]["digest"]
    environ["COSIGN_KEY"] = (root / "keys/cosign.key").read_text()
    yield environ
    registry.kill()


@pytest.mark.parametrize("block", of("registry"))
def test_a_block_for_a_registry(block: Block, published: dict[str, str], tmp_path: Path) -> None:
    if "generate-key-pair" not in block.text:
        shutil.copytree(published["KEYS"], tmp_path, dirs_exist_ok=True)
    blocks.run(block, tmp_path, {**published})
