"""Waiting for peers: all in parallel, with progress lines and a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from entrypoints.findings import Finding, Refused
from entrypoints.launch.model import Peer
from entrypoints.messages import finding
from entrypoints.running import probes, signals
from entrypoints.running.probes import Answer, Target

# Seconds: for one probe, between two probes, and between two lines.
TIMEOUT = 2.0
PAUSE = 1.0
_GAPS = (5, 10, 20, 30)
_LAST_GAP = 60
_MESSAGES = {
    probes.REFUSED: "peer-unreachable.refused",
    probes.NO_ANSWER: "peer-unreachable.no-answer",
    probes.NO_ROUTE: "peer-unreachable.no-route",
    probes.UNKNOWN_NAME: "peer-unreachable.unknown-name",
}


class _State:
    """What is known of a peer that is not reachable yet."""

    def __init__(self) -> None:
        self.attempts = 0
        self.error = probes.NO_ANSWER


def wait(
    peers: Sequence[Peer],
    timeout: float,
    say: Callable[[str], None],
    *,
    probe: Callable[[Target, float], Answer] = probes.probe,
    clock: Callable[[], float] = time.monotonic,
    pause: float = PAUSE,
) -> None:
    """Return once every peer is reachable. For the main thread only: it handles signals.

    Raises Refused (69) with one finding for each peer that is missing after `timeout` seconds,
    and SystemExit (128 + signal) at SIGTERM or SIGINT.
    """
    import threading

    start = clock()
    missing = {peer: _State() for peer in peers}
    answers: SimpleQueue[tuple[Peer, Answer]] = SimpleQueue()
    over = threading.Event()

    def ask(peer: Peer) -> None:
        while not over.is_set():
            answer = probe(Target(peer.host, peer.port, peer.path), TIMEOUT)
            answers.put((peer, answer))
            if not answer.error:
                return
            over.wait(pause)

    say(f"wait: up to {timeout:.0f} s for {', '.join(map(_named, missing))}")
    lines = due_times()
    next_line = next(lines)
    with signals.exit_on_signal(say, "wait"):
        try:
            for peer in missing:
                threading.Thread(target=ask, args=(peer,), daemon=True).start()
            while missing:
                try:
                    peer, answer = answers.get(timeout=pause)
                except Empty:
                    pass
                else:
                    missing[peer].attempts += 1
                    missing[peer].error = answer.error
                    if not answer.error:
                        del missing[peer]
                        say(f"wait: {_named(peer)} is reachable after {clock() - start:.0f} s")
                        continue
                passed = clock() - start
                if passed >= timeout:
                    raise Refused([_finding(p, s, timeout) for p, s in missing.items()])
                if passed >= next_line:
                    texts = [f"{_named(p)}: {s.error}" for p, s in missing.items()]
                    say(f"wait: {timeout - passed:.0f} s left; {'; '.join(texts)}")
                    while next_line <= passed:
                        next_line = next(lines)
        finally:
            over.set()


def due_times() -> Iterator[int]:
    """Seconds after the start at which a progress line is due, further and further apart."""
    at = 0
    for gap in _GAPS:
        at += gap
        yield at
    while True:
        at += _LAST_GAP
        yield at


def _named(peer: Peer) -> str:
    return f"{peer.name} ({Target(peer.host, peer.port, peer.path)})"


def _finding(peer: Peer, state: _State, timeout: float) -> Finding:
    message = _MESSAGES.get(state.error, "peer-unreachable.other-error")
    if state.error == probes.REFUSED and not peer.path:
        # Measured: the coordinator's port closes once the group is complete.
        message = "peer-unreachable.coordinator-refused"
    values = {"timeout": timeout, "attempts": state.attempts, "error": state.error}
    return finding(message, peer=_named(peer), **values)
