"""What the checks ask of the machine, replaced in tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from entrypoints.launch import network
from entrypoints.record import NamedTuple


class Output(NamedTuple):
    """What a command printed on both streams. `code`: None when it could not be run to its end.

    `text` then is the reason.
    """

    code: int | None
    text: str


class Space(NamedTuple):
    """Bytes of a file system."""

    total: int
    free: int


class User(NamedTuple):
    """Who this process is."""

    uid: int
    groups: frozenset[int]


class Machine(NamedTuple):
    """`root` is put before every path. Methods raise OSError where the machine does."""

    run: Callable[[Sequence[str], Mapping[str, str], float], Output]
    taken: Callable[[int], str | None]  # why nothing can listen on a port, None when it is free
    addresses: Callable[[], list[tuple[str, str]]]  # (interface, IPv4 address)
    resolve: Callable[[str], list[str]]
    host_name: Callable[[], str]
    user: Callable[[], User]
    now: Callable[[], float]
    space: Callable[[str], Space]
    accessible: Callable[[str, int], bool]
    root: str = ""

    def at(self, path: str) -> str:
        """The path under `root`."""
        return os.path.join(self.root, path.lstrip("/")) if self.root else path

    def read(self, path: str, limit: int = 1 << 24, offset: int = 0) -> bytes:
        """Up to `limit` bytes of a file."""
        with open(self.at(path), "rb") as file:
            file.seek(offset)
            return file.read(limit)

    def text(self, path: str) -> str:
        """A file's text; invalid bytes are replaced."""
        return self.read(path).decode(errors="replace")

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted; none when there is no such folder."""
        try:
            return sorted(os.listdir(self.at(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def stat(self, path: str) -> os.stat_result | None:
        """The status of a file; None when it does not exist."""
        try:
            return os.stat(self.at(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, path: str) -> bool:
        """Whether the path exists."""
        return self.stat(path) is not None

    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder."""
        return os.path.isdir(self.at(path))

    def link(self, path: str) -> str:
        """The target of a symbolic link."""
        return os.readlink(self.at(path))

    def may_use(self, path: str) -> bool:
        """Whether this process may read and write the path, also by the device cgroup."""
        return self.accessible(self.at(path), os.R_OK | os.W_OK)

    def may_read(self, path: str) -> bool:
        """Whether this process may read the path."""
        return self.accessible(self.at(path), os.R_OK)

    def size_of(self, path: str) -> Space:
        """The size of the file system that holds the path, or would hold it."""
        while not self.exists(path) and path not in ("", "/"):
            path = os.path.dirname(path.rstrip("/"))
        return self.space(self.at(path or "/"))


def _run(argv: Sequence[str], env: Mapping[str, str], timeout: float) -> Output:
    """Run a command. Kill a child that exceeds its time without waiting for it.

    One that hangs in the driver cannot be waited for.
    """
    import subprocess

    try:
        child = subprocess.Popen(
            list(argv),
            env={**env, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except (OSError, ValueError) as error:
        return Output(None, getattr(error, "strerror", None) or str(error))
    try:
        out, _ = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        return Output(None, f"gave no answer in {timeout:g} s")
    return Output(child.returncode, out.decode(errors="replace"))


def _taken(port: int) -> str | None:
    """Why a port is taken. Servers set SO_REUSEADDR, so only a listening socket counts."""
    import socket

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("0.0.0.0", port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _resolve(name: str) -> list[str]:
    """IPv4 addresses of a name. Raises TimeoutError after 5 s: a name server may not answer."""
    import socket
    import threading

    found: list[str] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(str(answer[4][0]) for answer in answers)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(5)
    if thread.is_alive():
        raise TimeoutError("no answer from the name server in 5 s")
    return found


def _user() -> User:
    return User(os.geteuid(), frozenset([os.getegid(), *os.getgroups()]))


def _space(path: str) -> Space:
    state = os.statvfs(path)
    return Space(state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize)


MACHINE = Machine(
    run=_run,
    taken=_taken,
    addresses=network.HOST.addresses,
    resolve=_resolve,
    host_name=lambda: os.uname().nodename,
    user=_user,
    now=time.time,
    space=_space,
    accessible=os.access,
)
