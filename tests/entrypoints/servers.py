"""Small real servers: HTTP ones that answer as told, and ports that are open or closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Answers every GET with `status`, and those of `paths` with theirs; 0 hangs."""

    def __init__(self, status: int, paths: dict[str, int] | None = None) -> None:
        self.status = status
        self.paths = paths or {}
        self.asked: list[str] = []
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                status = server.paths.get(self.path, server.status)
                if status == 0:
                    server.release.wait(10)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@contextmanager
def serving(status: int = 200, paths: dict[str, int] | None = None) -> Iterator[Server]:
    server = Server(status, paths)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def listening() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]
