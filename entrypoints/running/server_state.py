"""A record of the server that this container started, for `health`, which is another process."""

from __future__ import annotations

import os
from collections.abc import Sequence

from entrypoints import files
from entrypoints.record import NamedTuple
from entrypoints.running import procfs

# Folders, best first. The second is for a container without write access to the first.
FOLDERS = ("/run/ascend", os.path.join(os.environ.get("TMPDIR") or "/tmp", "ascend"))
_FILE = "launch.json"
_READY = "ready"


class Backend(NamedTuple):
    """A server behind the proxy; `side` is prefill or decode."""

    side: str
    host: str
    port: int


class ServerState(NamedTuple):
    """What to probe. `kind`: http, headless, ray-worker or proxy.

    `host`, `port`, `scheme`: the API of this node, port 0 without one.
    `leader_host`, `leader_port`: a headless node's leader API, a worker's Ray head.
    `pid`, `born`: the server's process and its start in ticks since boot, which tell this run's
    record from an earlier one.
    """

    role: str
    kind: str
    host: str = "127.0.0.1"
    port: int = 0
    scheme: str = "http"
    leader_host: str = ""
    leader_port: int = 0
    backends: Sequence[Backend] = ()
    pid: int = 0
    born: int = 0
    started_at: float = 0.0


def save(server: ServerState, folders: Sequence[str] = FOLDERS) -> None:
    """Write the record to the first writable folder, if there is one."""
    import json

    fields = {**server._asdict(), "backends": [backend._asdict() for backend in server.backends]}
    for folder in folders:
        if _write(folder, _FILE, json.dumps(fields)):
            return


def load(folders: Sequence[str] = FOLDERS) -> ServerState | None:
    """The record of the server that runs now; None when there is none."""
    import json

    for folder in folders:
        try:
            fields = json.loads(_read(folder, _FILE))
            backends = tuple(Backend(**backend) for backend in fields.pop("backends"))
            server = ServerState(**fields, backends=backends)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            continue
        if server.born == procfs.started(server.pid):
            return server
    return None


def mark_ready(server: ServerState, folders: Sequence[str] = FOLDERS) -> None:
    """Record that this server was ready once."""
    if not was_ready(server, folders):
        for folder in folders:
            if _write(folder, _READY, _identity(server)):
                return


def was_ready(server: ServerState, folders: Sequence[str] = FOLDERS) -> bool:
    """Whether this server was ready once."""
    for folder in folders:
        try:
            if _read(folder, _READY) == _identity(server):
                return True
        except (OSError, ValueError):
            continue
    return False


def _identity(server: ServerState) -> str:
    return f"{server.pid} {server.born}"


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()


def _write(folder: str, name: str, text: str) -> bool:
    """Replace a file; False when that fails."""
    try:
        files.write(os.path.join(folder, name), text)
    except OSError:
        return False
    return True
