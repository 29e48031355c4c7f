"""A parent process for the server: forwards signals, limits the drain, and reports failures.

vLLM exits with 0 when its engine has died, and after SIGTERM may hang for as long as a client
stays connected (measured with 0.13.0). So its exit code means nothing, and its end needs a limit.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from entrypoints.findings import PEER, Refused
from entrypoints.launch.model import Peer
from entrypoints.running import process
from entrypoints.running.leader import GRACE, PAUSE, LeaderMonitor

# sysexits' EX_SOFTWARE: the server ended with 0 without being asked to.
SOFTWARE = 70
# Seconds to finish open requests after SIGTERM.
DRAIN = 30
# Seconds for the rest of the group to end by itself: Python's resource tracker removes shared
# memory after the server has ended.
_GROUP_GRACE = 2
# Seconds for killed processes to vanish; one that waits for a device may not.
_VANISH = 5

_STOP = frozenset((signal.SIGTERM, signal.SIGINT))
_FORWARDED = _STOP | {signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_HANDLED = _FORWARDED | {signal.SIGCHLD}
_TICK = 1.0
_PR_SET_CHILD_SUBREAPER = 36

Say = Callable[[str], None]


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    drain: float | None,
    leader: Peer | None = None,
    say: Say,
    scheme: str = "http",
    grace: float = GRACE,
    pause: float = PAUSE,
) -> int:
    """Run the server in its own session and return the exit code for the container.

    0 only after a requested stop, within `drain` seconds. 70 for an unrequested 0, 128 + n when
    signal n ended the server (137: killed after the drain), 69 when the `leader` was ready and
    has been gone for `grace` seconds; otherwise the server's own code.
    """
    _adopt_orphans()
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Blocked signals stay pending until sigtimedwait takes them: none is lost, none interrupts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        server = _Server(_spawn(argv, env, before, say), DRAIN if drain is None else drain, say)
        monitor = LeaderMonitor(leader, scheme, grace, pause) if leader else None
        if monitor:
            monitor.start(
                lambda: os.kill(os.getpid(), signal.SIGCHLD)
            )  # makes the loop look at `gone`
        try:
            return _wait_for_end(server, monitor)
        finally:
            server.sweep()
    finally:
        while signal.sigtimedwait(_HANDLED, 0):  # signals from its last moments would end us, too
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Server:
    """The server's process, which leads a group. `asked`: the stop signals sent to it."""

    def __init__(self, pid: int, drain: float, say: Say) -> None:
        self.pid = pid
        self.drain = drain
        self.say = say
        self.asked: set[int] = set()
        self.kill_at: float | None = None
        self.killed = False

    def time_left(self) -> float:
        """Seconds until the drain is over; an hour when no stop was requested."""
        return 3600.0 if self.kill_at is None else max(0.0, self.kill_at - time.monotonic())

    def stop(self, number: int) -> None:
        """Ask the server to end within the drain; the second time, kill it.

        The signal goes to the server alone, as without a parent: it ends its engines after the
        open requests.
        """
        if self.asked:
            self.say(f"supervise: {_name(number)} again, killing the server")
            self.kill()
            return
        self.asked.add(number)
        self.kill_at = time.monotonic() + self.drain
        self.say(f"supervise: {_name(number)}, the server has {self.drain:.0f} s to end")
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL to the whole group. The server is not reaped yet, so its PID is its own."""
        self.kill_at = None
        self.killed = True
        os.kill(self.pid, signal.SIGKILL)
        self._signal_group(signal.SIGKILL)

    def sweep(self) -> None:
        """End the processes that the server left in its group when it ended."""
        if not self.killed:
            if self._empty_within(_GROUP_GRACE):
                return
            self.say("supervise: killing the processes that the server has left behind")
        self._signal_group(signal.SIGKILL)
        if not self._empty_within(_VANISH):
            self.say(f"supervise: some processes do not vanish {_VANISH} s after SIGKILL")

    def _empty_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while True:
            reap(self.pid)
            if not self._signal_group(0):
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            signal.sigtimedwait({signal.SIGCHLD}, min(left, _TICK))

    def _signal_group(self, number: int) -> bool:
        """Send a signal to the group; False when it is empty."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def code(self, status: int) -> int:
        """The exit code for a wait status; prints a line about an unrequested end."""
        if self.killed:
            return 128 + signal.SIGKILL
        own = os.waitstatus_to_exitcode(status)
        code = 128 - own if own < 0 else own
        how = _name(-own) if own < 0 else f"code {own}"
        if not self.asked:
            code = code or SOFTWARE
            self.say(f"supervise: the server ended with {how}, unasked; exit code {code}")
        elif code in {0, *(128 + number for number in self.asked)}:
            self.say("supervise: the server has ended")
            return 0
        else:
            self.say(f"supervise: the server ended with {how} when asked to; exit code {code}")
        return code


def _wait_for_end(server: _Server, leader: LeaderMonitor | None) -> int:
    """Handle signals until the server has ended; return the exit code."""
    lost = False
    while True:
        caught = signal.sigtimedwait(_HANDLED, server.time_left())
        number = caught.si_signo if caught else 0
        if number in _STOP:
            server.stop(number)
        elif number in _FORWARDED:
            os.kill(server.pid, number)
        status = reap(server.pid)
        if status is not None:
            code = server.code(status)
            return PEER if lost else code
        if leader and leader.gone and not lost and not server.asked:
            lost = True
            server.say(f"supervise: the leader is gone: {leader.gone}; exit code {PEER}")
            server.stop(signal.SIGTERM)
        if server.kill_at is not None and time.monotonic() >= server.kill_at:
            server.say(f"supervise: not ended after {server.drain:.0f} s, killing the server")
            server.kill()


def reap(pid: int) -> int | None:
    """Reap every child that has ended; return the wait status of `pid` if it was among them."""
    found = None
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if child == 0:
            return found
        if child == pid:
            found = status


def _spawn(
    argv: Sequence[str], env: Mapping[str, str], mask: Iterable[int | signal.Signals], say: Say
) -> int:
    """Fork the server, which execs the command as without a parent; return its PID."""
    pid = os.fork()
    if pid == 0:
        _execute(argv, env, mask, say)
    return pid


def _execute(
    argv: Sequence[str], env: Mapping[str, str], mask: Iterable[int | signal.Signals], say: Say
) -> NoReturn:
    code = SOFTWARE
    try:
        os.setsid()
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        process.execute(argv, env)
    except Refused as error:
        code = error.exit_code
        for one in error.findings:
            say(f"error: {one.line()}")
    finally:
        os._exit(code)


def _adopt_orphans() -> None:
    """Adopt orphaned processes, so that they do not remain as zombies."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
