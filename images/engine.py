"""The manifests of an image in the engine, which no command of it shows.

It sends them to a registry, after the blobs that the registry lacks. So it is asked to push to one
on loopback that says it has every blob, keeps the manifests, and refuses the last one: no layer is
read, and the engine does not take the image for pushed.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from images.registry.oci import Manifest

NAME, TAG = "image", "asked"
TLS = b"\x16"  # the first byte of a handshake, which the engine tries first
HANDSHAKE = 1 << 16  # bytes, more than its first message has
SECONDS = 30
POLL = 0.02  # seconds until it notices that it is no longer needed


def manifests(reference: str, digest: str, single: str) -> dict[str, Manifest]:
    """Architecture → manifest; an image that is no index is of the `single` one.

    Empty where the engine does not reach this machine's loopback.
    """
    with _registry() as registry:
        name = f"127.0.0.1:{registry.server_port}/{NAME}:{TAG}"
        if not _docker("tag", reference, name):
            return {}
        try:
            _docker("push", "--quiet", name)
        finally:
            _docker("rmi", name)
    top = registry.manifests.get(digest)
    if top is None:
        return {}
    digests = top.arches if top.is_index else {single: digest}
    found = {arch: registry.manifests.get(one) for arch, one in digests.items()}
    return {arch: one for arch, one in found.items() if one is not None}


def _docker(*arguments: str) -> bool:
    try:
        answer = subprocess.run(["docker", *arguments], capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


class _Registry(ThreadingHTTPServer):
    request_queue_size = 128  # all layers are asked for at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.manifests: dict[str, Manifest] = {}


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Registry

    def handle(self) -> None:
        if self.connection.recv(1, socket.MSG_PEEK) == TLS:
            self.connection.recv(HANDSHAKE)
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # so that it tries without TLS
        else:
            super().handle()

    def do_GET(self) -> None:
        self._answer(200)

    def do_HEAD(self) -> None:
        self._answer(200 if "/blobs/" in self.path else 404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        manifest = Manifest(self.headers["Content-Type"], body)
        self.server.manifests[manifest.digest] = manifest
        self._answer(403 if self.path.endswith(f"/{TAG}") else 201)

    def _answer(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _registry() -> Iterator[_Registry]:
    registry = _Registry()
    thread = threading.Thread(target=registry.serve_forever, args=(POLL,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.shutdown()
        registry.server_close()
