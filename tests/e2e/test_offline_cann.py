"""A bundle for a base that compiles: the distribution's packages, compiled layers, sources."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from images import build as builds
from images import fetch, needs, offline, targets
from images.matrix import Matrix

from .conftest import docker
from .test_cann_sources import installers, matrix, options, sources  # noqa: F401


@pytest.fixture(scope="module")
def repository(sources: dict[str, str]) -> Iterator[str]:  # noqa: F811
    """vllm-ascend as a site's git server has it."""
    directory = Path(sources["vllm-ascend"])
    git = ["git", "-C", str(directory), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["tag", "v0.13.0rc1"]):
        subprocess.run([*git, *command], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = ["git", "daemon", "--export-all", f"--base-path={directory.parent}"]
    # Its main program is a child of git's, and would outlive a git that is ended.
    server = subprocess.Popen(
        [*serve, "--listen=127.0.0.1", f"--port={port}"], start_new_session=True
    )
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.05)
    yield f"git://127.0.0.1:{port}/{directory.name}#v0.13.0rc1"
    os.killpg(server.pid, signal.SIGTERM)
    server.wait()


def test_an_image_from_canns_installers_without_a_network(
    matrix: Matrix,  # noqa: F811
    installers: Path,  # noqa: F811
    sources: dict[str, str],  # noqa: F811
    repository: str,
    tmp_path: Path,
) -> None:
    online = options(matrix, installers, {**sources, "vllm-ascend": repository})
    variants = [matrix.variant(None, "a3", "ubuntu22.04")]
    found = targets.resolve(matrix, variants, online, print)
    made = fetch.fetch(matrix, found, online, tmp_path / "bundle", print)
    (stages,) = made.bundle.stages.values()
    assert set(stages) == {"sdk", "layer-mooncake"}
    assert set(made.bundle.sources) == {"vllm-ascend"}

    bundle = offline.opened(tmp_path / "bundle", {})
    closed = replace(online, site=bundle.site, offline=bundle, no_cache=True)
    found = targets.resolve(matrix, variants, closed, print)
    needs.check(matrix, found, closed, bundle, print)
    (built,) = builds.build(matrix, found, closed, print)
    code = "import vllm_ascend.kernels, mooncake.engine; print(mooncake.engine.answer)"
    try:
        assert docker("run", "--rm", "--entrypoint=python", built.tag, "-c", code).stdout == "42\n"
        assert docker("run", "--rm", "--entrypoint=which", built.tag, "gcc").stdout
    finally:
        docker("image", "rm", built.tag)
