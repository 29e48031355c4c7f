"""A registry on a free loopback port, whose blobs can be reset to a saved state."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.layers.docker import BenchmarkError

CONFIG = """\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
"""


class Registry:
    """Debian's docker-registry; a context manager that ends the process it started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.storage = directory / "storage"
        self.saved = directory / "saved"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def __enter__(self) -> Registry:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def save(self) -> None:
        """Remember what is stored now, for `reset`."""
        shutil.rmtree(self.saved, ignore_errors=True)
        shutil.copytree(self.storage, self.saved)

    def reset(self) -> None:
        """Delete what was stored after `save`, so that the next build must upload it."""
        self._stop()
        shutil.rmtree(self.storage, ignore_errors=True)
        shutil.copytree(self.saved, self.storage)
        self._start()

    def blobs(self) -> dict[str, int]:
        """Digest → bytes of everything stored."""
        root = self.storage / "docker" / "registry" / "v2" / "blobs"
        return {path.parent.name: path.stat().st_size for path in root.glob("*/*/*/data")}

    def _start(self) -> None:
        if shutil.which("docker-registry") is None:
            raise BenchmarkError("docker-registry is not installed: ./setup.sh --dev installs it")
        self.storage.mkdir(parents=True, exist_ok=True)
        config = self.directory / "registry.yml"
        config.write_text(CONFIG.format(storage=self.storage, port=self.port))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        with (self.directory / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdout=log,
                stderr=log,
                env={**environment, "OTEL_TRACES_EXPORTER": "none"},
            )
        for _ in range(100):
            if self._answers():
                return
            time.sleep(0.1)
        self._stop()
        raise BenchmarkError(f"docker-registry does not answer on 127.0.0.1:{self.port}")

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
