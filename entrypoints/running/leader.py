"""Whether the leader of a headless node still lives.

vLLM does not tell the node: after the leader is killed, the node keeps running (measured: 25 s
and more) and keeps its NPUs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from entrypoints.launch.model import Peer
from entrypoints.running import probes
from entrypoints.running.probes import Answer, Target

# Seconds: between two probes, for one probe, and how long the leader may be missing.
PAUSE = 5.0
TIMEOUT = 5.0
GRACE = 30.0


class LeaderMonitor:
    """Probes the leader until it is gone. It cannot be gone before it was ready once."""

    def __init__(
        self,
        peer: Peer,
        scheme: str = "http",
        grace: float = GRACE,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = Target(peer.host, peer.port, peer.path or "/health", scheme)
        self.grace = grace
        self.pause = pause
        self.clock = clock
        self.ready = False
        self.missing_since: float | None = None
        self.gone = ""

    def observe(self, answer: Answer) -> None:
        """Evaluate an answer; set `gone` to the reason once the leader counts as gone."""
        now = self.clock()
        if not answer.error:
            self.ready = True
            self.missing_since = None
        elif self.ready:
            if self.missing_since is None:
                self.missing_since = now
            passed = now - self.missing_since
            if passed >= self.grace:
                self.gone = f"{self.target} is not healthy for {passed:.0f} s: {answer.error}"

    def start(self, on_gone: Callable[[], None]) -> None:
        """Probe in a thread, which calls `on_gone` once the leader is gone."""
        import threading

        def run() -> None:
            while True:
                self.observe(probes.probe(self.target, TIMEOUT))
                if self.gone:
                    return on_gone()
                time.sleep(self.pause)

        threading.Thread(target=run, daemon=True).start()
