"""The manifests and configurations of an image in the engine, which none of its commands show.

The engine sends them to a registry when it pushes. So it pushes to a registry on loopback that
claims to have every layer, records the manifests, and rejects the last one: no layer is read, and
the engine does not record a push.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from common import docker
from images.registry.oci import Manifest

NAME, TAG = "image", "asked"
TLS = b"\x16"  # first byte of a handshake, which the engine tries first
HANDSHAKE = 1 << 16  # bytes, more than its first message
SECONDS = 30
POLL = 0.02  # seconds between checks for a shutdown


def manifests(reference: str, digest: str, single: str) -> dict[str, Manifest]:
    """Architecture → manifest; an image that is not an index is of the `single` one.

    Empty when the engine cannot reach this machine's loopback.
    """
    pushed = _push(reference).manifests
    top = pushed.get(digest)
    if top is None:
        return {}
    digests = top.arches if top.is_index else {single: digest}
    return {arch: pushed[one] for arch, one in digests.items() if one in pushed}


def documents(reference: str) -> dict[str, bytes]:
    """Digest → every manifest, index and configuration of the image."""
    manifests = _push(reference).manifests
    images = [one.document for one in manifests.values() if not one.is_index]
    configs = {one["config"]["digest"] for one in images}
    blobs = _push(reference, configs).blobs if configs else {}
    return {**{digest: one.body for digest, one in manifests.items()}, **blobs}


def _push(reference: str, lacks: Collection[str] = ()) -> _Registry:
    """Push an image to a registry on loopback that `lacks` these blobs."""
    with _registry(lacks) as registry:
        name = f"127.0.0.1:{registry.server_port}/{NAME}:{TAG}"
        if docker.output("tag", reference, name, timeout=SECONDS) is not None:
            try:
                docker.output("push", "--quiet", name, timeout=SECONDS)
            finally:
                docker.output("rmi", name, timeout=SECONDS)
    return registry


class _Registry(ThreadingHTTPServer):
    request_queue_size = 128  # the engine asks for all layers at once

    def __init__(self, lacks: Collection[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.lacks = lacks
        self.manifests: dict[str, Manifest] = {}
        self.blobs: dict[str, bytes] = {}


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Registry

    def handle(self) -> None:
        if self.connection.recv(1, socket.MSG_PEEK) == TLS:
            self.connection.recv(HANDSHAKE)
            self.wfile.write(
                b"HTTP/1.1 400 Bad Request\r\n\r\n"
            )  # the engine then tries without TLS
        else:
            super().handle()

    def do_GET(self) -> None:
        self._answer(200)

    def do_HEAD(self) -> None:
        _, blob, digest = self.path.rpartition("/blobs/")
        self._answer(200 if blob and digest not in self.server.lacks else 404)

    def do_POST(self) -> None:
        self._answer(202, Location=self.path)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        address = urlsplit(self.path)
        for digest in parse_qs(address.query).get("digest", []):
            self.server.blobs[digest] = body
        if "/manifests/" in address.path:
            manifest = Manifest(self.headers["Content-Type"], body)
            self.server.manifests[manifest.digest] = manifest
        self._answer(403 if address.path.endswith(f"/{TAG}") else 201)

    def _answer(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _registry(lacks: Collection[str]) -> Iterator[_Registry]:
    registry = _Registry(lacks)
    thread = threading.Thread(target=registry.serve_forever, args=(POLL,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.shutdown()
        registry.server_close()
