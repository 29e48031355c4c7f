"""Whether the leader is still there, as its headless nodes see it.

vLLM does not tell them: with the leader killed, a headless node lives on (measured: 25 s and
more), and holds its NPUs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from entrypoints.launch.model import Peer
from entrypoints.running import reach
from entrypoints.running.reach import Answer, Target

# Seconds: between two looks, one look, and how long in a row the leader may be missing.
PAUSE = 5.0
LOOK = 5.0
PATIENCE = 30.0


class Leader:
    """Looked at until it is gone. Before it was ready once nothing is concluded."""

    def __init__(
        self,
        peer: Peer,
        scheme: str = "http",
        patience: float = PATIENCE,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = Target(peer.host, peer.port, peer.path or "/health", scheme)
        self.patience = patience
        self.pause = pause
        self.clock = clock
        self.ready = False
        self.missing_since: float | None = None
        self.gone = ""

    def saw(self, answer: Answer) -> None:
        """Takes one look into account; `gone` then says why the leader counts as gone."""
        now = self.clock()
        if not answer.error:
            self.ready = True
            self.missing_since = None
        elif self.ready:
            if self.missing_since is None:
                self.missing_since = now
            passed = now - self.missing_since
            if passed >= self.patience:
                self.gone = f"{self.target} is not healthy for {passed:.0f} s: {answer.error}"

    def watch(self, tell: Callable[[], None]) -> None:
        """Looks in a thread of its own, and calls `tell` there once the leader is gone."""
        import threading

        def run() -> None:
            while True:
                self.saw(reach.attempt(self.target, LOOK))
                if self.gone:
                    return tell()
                time.sleep(self.pause)

        threading.Thread(target=run, daemon=True).start()
