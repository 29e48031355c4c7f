"""Probes of servers: whether one can be reached, and if not, why."""

from __future__ import annotations

from collections.abc import Sequence

from entrypoints.record import NamedTuple

REFUSED = "connection refused"
NO_ROUTE = "no route"
NO_ANSWER = "no answer"
UNKNOWN_NAME = "name not known yet"
NOT_HTTP = "no HTTP answer"


class Target(NamedTuple):
    """A port that must be open or, with a `path`, a URL that must answer 200."""

    host: str
    port: int
    path: str = ""
    scheme: str = "http"

    def __str__(self) -> str:
        if not self.path:
            return f"{self.host}:{self.port}"
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


class Answer(NamedTuple):
    """`error` is empty when the target was reached; `status` is HTTP's, 0 without an answer."""

    status: int = 0
    error: str = ""


def probe(target: Target, timeout: float) -> Answer:
    """Connect, and request the path if there is one; each step takes up to `timeout` seconds.

    Certificates are not verified: the question is whether the server lives, not who it is.
    """
    import errno
    import http.client
    import socket
    import ssl

    try:
        if not target.path:
            socket.create_connection((target.host, target.port), timeout).close()
            return Answer()
        connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout)
        if target.scheme == "https":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(
                target.host, target.port, timeout=timeout, context=context
            )
        try:
            connection.request("GET", target.path, headers={"Connection": "close"})
            status = connection.getresponse().status
        finally:
            connection.close()
        return Answer(status, "" if status == 200 else f"HTTP {status}")
    except (socket.gaierror, UnicodeError):
        return Answer(0, UNKNOWN_NAME)
    except TimeoutError:
        return Answer(0, NO_ANSWER)
    except ConnectionRefusedError:
        return Answer(0, REFUSED)
    except (http.client.HTTPException, ConnectionError):
        return Answer(0, NOT_HTTP if target.path else "connection closed")
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return Answer(0, NO_ROUTE)
        return Answer(0, error.strerror or str(error))


def probe_all(targets: Sequence[Target], timeout: float) -> list[Answer]:
    """Probe the targets in parallel, within `timeout` seconds in all.

    Each has a thread, because a name look-up accepts no time-out.
    """
    import threading
    import time

    answers = [Answer(0, NO_ANSWER)] * len(targets)

    def ask(i: int) -> None:
        answers[i] = probe(targets[i], timeout)

    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(len(targets))]
    end = time.monotonic() + timeout
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(answers)
