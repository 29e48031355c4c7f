"""A bundle, and the same image from it with every way to a network closed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from images.build import bundle as offline
from images.build.bake import bake
from images.build.progress import Progress
from tests.e2e.conftest import NATIVE, Image, docker, image, invoke, project, remove

pytestmark = pytest.mark.usefixtures("cold_build")

WHAT = ("--platform=a3", "--base=stand-in", f"--arch={NATIVE}")
NOWHERE = "http://127.0.0.1:9"
PYTHON = (
    *("venv", "torch", "libraries", "dependencies", "utilities"),
    *("mooncake", "vllm", "proxy", "vllm-ascend", "entrypoint"),
)


def closed() -> dict[str, str]:
    """An environment that has no index, and whose proxies answer nobody."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("PIP_", "UV_", "TORCH_"))}
    proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    # The engine is asked over its socket, which no proxy is used for.
    return {**kept, **dict.fromkeys(proxies, NOWHERE), "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("offline") / "project")


@pytest.fixture(scope="module")
def bundle(checkout: Path) -> Path:
    directory = checkout.parent / "bundle"
    answer = invoke("fetch", str(directory), *WHAT, "--format=json", where=checkout)
    assert answer.returncode == 0, answer.stderr[-3000:]
    told = json.loads(answer.stdout)
    assert told["bytes"] == sum(
        path.stat().st_size for path in directory.rglob("*.*") if path.name != "bundle.json"
    )
    return directory


def test_a_cold_build_without_a_network_gives_the_same_python_layers(
    bundle: Path, checkout: Path, request: pytest.FixtureRequest
) -> None:
    where = ("--registry=test.invalid/offline", "--no-cache", f"--offline={bundle}")
    answer = invoke("build", "--format=json", *WHAT, *where, where=checkout, env=closed())
    assert answer.returncode == 0, answer.stderr[-4000:]
    (built,) = json.loads(answer.stdout)
    made = image(built)
    a3: Image = request.getfixturevalue("a3")  # now, so that both builds go on side by side
    try:
        assert {n: made.layers[n] for n in PYTHON} == {n: a3.layers[n] for n in PYTHON}
        made.python("import torch, vllm, numpy")
        labels = ("image", "inspect", "--format", "{{json .Config.Labels}}")
        assert docker(*labels, made.tag).stdout == docker(*labels, a3.tag).stdout
    finally:
        remove(made.tag)


def test_a_step_has_no_network(bundle: Path, tmp_path: Path) -> None:
    seen = (
        "FROM scratch AS look\n"
        f"ADD tools-{NATIVE}.tar /\n"
        "RUN mkdir /out && ls /sys/class/net > /out/devices\n"
        "FROM scratch\n"
        "COPY --from=look /out/ /\n"
    )
    given = offline.read(bundle)
    (tmp_path / "Dockerfile").write_text(given.dockerfile(seen))
    made = {
        "context": str(bundle / "roots"),
        "dockerfile": str(tmp_path / "Dockerfile"),
        "contexts": {},
        "output": [f"type=local,dest={tmp_path / 'seen'}"],
    }
    bake({"look": given.target(made, "any", tmp_path)}, tmp_path / "bake", Progress())
    assert (tmp_path / "seen" / "devices").read_text().split() == ["lo"]


def test_run_again_it_fetches_what_broke(bundle: Path, checkout: Path) -> None:
    torch = next((bundle / "wheels").glob("torch-2*"))
    spoiled = next((bundle / "wheels").glob("numpy-*"))
    gone = next((bundle / "wheels").glob("vllm_ascend-*"))
    time = torch.stat().st_mtime_ns
    spoiled.write_bytes(spoiled.read_bytes()[:-1] + b"\0\0")
    gone.unlink()
    where = ("--registry=test.invalid/offline", f"--offline={bundle}")
    refused = invoke("build", *WHAT, *where, where=checkout, env=closed())
    assert refused.returncode == 65
    problems = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert len(problems) == 2
    assert f"{gone}: is missing" in refused.stderr
    assert f"{spoiled}: has " in refused.stderr
    again = invoke("fetch", str(bundle), *WHAT, "--format=json", where=checkout)
    assert again.returncode == 0, again.stderr[-3000:]
    told = json.loads(again.stdout)
    assert told["kept"] == told["files"] - 2
    assert torch.stat().st_mtime_ns == time


def test_another_release_than_was_fetched(bundle: Path) -> None:
    answer = invoke(
        *("build", "--platform=a3", "--base=stand-in", "--release=v0.13.0", f"--offline={bundle}"),
        env=closed(),
    )
    assert answer.returncode == 65
    assert "locks/v0.13.0/" in answer.stderr
    assert "is not in the bundle" in answer.stderr
