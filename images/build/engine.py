"""The manifests and configurations of an image in the engine, which no command of it shows.

It sends them to a registry, after the blobs that the registry lacks. So it is asked to push to one
on loopback that says it has every layer, keeps what comes, and refuses the last manifest: no layer
is read, and the engine does not take the image for pushed.
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
TLS = b"\x16"  # the first byte of a handshake, which the engine tries first
HANDSHAKE = 1 << 16  # bytes, more than its first message has
SECONDS = 30
POLL = 0.02  # seconds until it notices that it is no longer needed


def manifests(reference: str, digest: str, single: str) -> dict[str, Manifest]:
    """Architecture → manifest; an image that is no index is of the `single` one.

    Empty where the engine does not reach this machine's loopback.
    """
    pushed = _push(reference).manifests
    top = pushed.get(digest)
    if top is None:
        return {}
    digests = top.arches if top.is_index else {single: digest}
    return {arch: pushed[one] for arch, one in digests.items() if one in pushed}


def documents(reference: str) -> dict[str, bytes]:
    """Digest → manifest, index or configuration, of all that the image is made of."""
    manifests = _push(reference).manifests
    images = [one.document for one in manifests.values() if not one.is_index]
    configs = {one["config"]["digest"] for one in images}
    blobs = _push(reference, configs).blobs if configs else {}
    return {**{digest: one.body for digest, one in manifests.items()}, **blobs}


def _push(reference: str, lacks: Collection[str] = ()) -> _Registry:
    """Have an image pushed to a registry that lacks these blobs of it."""
    with _registry(lacks) as registry:
        name = f"127.0.0.1:{registry.server_port}/{NAME}:{TAG}"
        if docker.output("tag", reference, name, timeout=SECONDS) is not None:
            try:
                docker.output("push", "--quiet", name, timeout=SECONDS)
            finally:
                docker.output("rmi", name, timeout=SECONDS)
    return registry


class _Registry(ThreadingHTTPServer):
    request_queue_size = 128  # all layers are asked for at once

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
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # so that it tries without TLS
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
