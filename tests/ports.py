"""Ports for the servers of the tests."""

import itertools
import os
import socket

# Below the range that the kernel gives to outgoing connections (32768 up), where a port found free
# can be taken before the server binds it. Each worker of a run has a thousand ports of its own, and
# each process starts at a place of its own in them.
FIRST, EACH, WORKERS = 20000, 1000, 12
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and which this process gives out once."""
    for number in itertools.islice(_numbers, EACH):
        port = FIRST + _worker * EACH + number % EACH
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
