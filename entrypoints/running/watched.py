"""What runs in this container, noted at the start for `health`, which is another process."""

from __future__ import annotations

import os
from collections.abc import Sequence

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


class Watch(NamedTuple):
    """What is to be probed. `kind`: http, headless, ray-worker or proxy.

    `host`, `port`, `scheme`: the API of this node, port 0 without one.
    `leader_host`, `leader_port`: of a headless node the leader's API, of a worker the Ray head.
    `pid`, `born`: the server's process and its start in ticks since boot, so that a note of an
    earlier run is not taken for this one's.
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


def save(watch: Watch, folders: Sequence[str] = FOLDERS) -> None:
    """Writes the note into the first folder that can be written; without any, none is made."""
    import json

    fields = {**watch._asdict(), "backends": [backend._asdict() for backend in watch.backends]}
    for folder in folders:
        if _write(folder, _FILE, json.dumps(fields)):
            return


def load(folders: Sequence[str] = FOLDERS) -> Watch | None:
    """The note of the server that runs now; None when there is none."""
    import json

    for folder in folders:
        try:
            fields = json.loads(_read(folder, _FILE))
            backends = tuple(Backend(**backend) for backend in fields.pop("backends"))
            watch = Watch(**fields, backends=backends)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            continue
        if watch.born == procfs.started(watch.pid):
            return watch
    return None


def mark_ready(watch: Watch, folders: Sequence[str] = FOLDERS) -> None:
    """Notes that this server was ready once."""
    if not was_ready(watch, folders):
        for folder in folders:
            if _write(folder, _READY, _identity(watch)):
                return


def was_ready(watch: Watch, folders: Sequence[str] = FOLDERS) -> bool:
    """Whether this server was ready once."""
    for folder in folders:
        try:
            if _read(folder, _READY) == _identity(watch):
                return True
        except (OSError, ValueError):
            continue
    return False


def _identity(watch: Watch) -> str:
    return f"{watch.pid} {watch.born}"


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()


def _write(folder: str, name: str, text: str) -> bool:
    """Replaces the file as a whole, so that nobody reads half of it."""
    path = os.path.join(folder, name)
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
    except OSError:
        return False
    return True
