"""Platform cpu: an image is published, checked, inspected and listed (minutes; `pytest -m cpu`)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from images.matrix import CPU, load
from tests.e2e.conftest import NATIVE, invoke
from tests.e2e.images.test_publish import Registry

ENGINE = "0.13.0"

pytestmark = [pytest.mark.e2e, pytest.mark.cpu]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    for tool in ("cosign", "docker-registry"):
        assert shutil.which(tool), "./setup.sh --dev installs it"
    made = Registry(tmp_path / "registry")
    made.start()
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    subprocess.run(["cosign", "generate-key-pair"], cwd=tmp_path, check=True)
    return tmp_path / "cosign"


def _json(*arguments: str) -> Any:
    answer = invoke(*arguments, "--format=json")
    assert answer.returncode == 0, answer.stderr[-4000:]
    return json.loads(answer.stdout)


def test_from_the_build_to_the_catalogue(registry: Registry, key: Path, tmp_path: Path) -> None:
    variant = load().variant(None, CPU, "", ENGINE)
    name = f"{registry.host}/team/vllm-ascend"
    options = [f"--registry={registry.host}/team", "--platform=cpu", f"--vllm={ENGINE}"]
    options += [f"--arch={NATIVE}", f"--key={key}.key", "--no-transparency-log"]
    (published,) = _json("publish", *options)
    assert published["tag"] == variant.tag
    (again,) = _json("publish", *options)
    assert (again["action"], again["digest"]) == ("skip", published["digest"])

    image = f"{name}:{variant.tag}"
    checked = invoke(
        "conformance", image, f"--key={key}.pub", "--no-transparency-log", f"--arch={NATIVE}"
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

    (seen,) = _json("inspect", image)
    assert seen["pins"] == variant.pins

    site = tmp_path / "site"
    answer = invoke("site", f"--registry={name}", f"--out={site}")
    assert answer.returncode == 0, answer.stderr
    assert variant.tag in (site / "index.html").read_text()
