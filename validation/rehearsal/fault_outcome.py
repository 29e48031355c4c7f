"""What a fault does to clients: counted and assessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from validation.rehearsal.load_generator import (
    CUT_SHORT,
    EMPTY,
    LATE,
    NO_CONNECTION,
    REPEATED,
    Attempt,
)

STEADY = 6  # undisturbed answers in a row that count as recovery
# An answer is late when it takes more than LATE_FACTOR times the usual seconds plus LATE_MARGIN.
LATE_FACTOR, LATE_MARGIN = 2.0, 1.0


@dataclass(frozen=True)
class FaultOutcome:
    """What clients saw of a fault. The field names are the keys of `--format json`.

    `whom`: the targets. `begun`: time of the injection (time.monotonic). `sent`, `failed`: requests
    that were pending then or sent later. `statuses`: failure → number of requests. `hung`: past
    their deadline. `empty`: 200 with an empty body. `wrong`: 200 with a truncated or repeated
    answer that gives no sign of it. `longest`: seconds of the slowest. `after`: seconds until
    recovery, None without one. `helped`: containers that had to be started by hand.
    """

    fault: str
    kind: str
    whom: tuple[str, ...]
    begun: float
    sent: int
    failed: int
    statuses: Mapping[str, int]
    hung: int
    empty: int
    wrong: int
    longest: float
    after: float | None
    helped: tuple[str, ...] = ()
    requests: tuple[Attempt, ...] = field(default=(), repr=False)

    @property
    def good(self) -> bool:
        """Whether all failures were reported as such, nothing hung, and it recovered by itself."""
        return self.after is not None and not (self.hung or self.empty or self.wrong or self.helped)

    @property
    def recovery(self) -> str:
        """A phrase about how long recovery took."""
        if self.after is None:
            return "did not serve again"
        return f"served again after {self.after:.1f} s" if self.after else "never stopped"

    @property
    def manual_steps(self) -> list[str]:
        """A sentence about what had to be done by hand."""
        return [f"{name} started by hand" for name in self.helped]

    def __str__(self) -> str:
        parts = [f"{self.failed} of {self.sent} requests failed"]
        parts += [f"{number} with {status}" for status, number in self.statuses.items()]
        parts.append(f"the slowest took {self.longest:.1f} s")
        return ", ".join([*parts, self.recovery, *self.manual_steps])


def assess(
    fault: str,
    kind: str,
    targets: tuple[str, ...],
    results: Sequence[Attempt],
    begun: float,
    restarted: Sequence[str] = (),
) -> FaultOutcome:
    """Assess the requests of a fault injected at `begun`; those before it are the baseline."""
    affected = [one for one in results if one.at + one.seconds >= begun]
    failed = [one for one in affected if not one.ok]
    return FaultOutcome(
        fault=fault,
        kind=kind,
        whom=targets,
        begun=begun,
        sent=len(affected),
        failed=len(failed),
        statuses=dict(Counter(map(_status, failed))),
        hung=sum(one.status == LATE for one in failed),
        empty=sum(one.said == EMPTY for one in failed),
        wrong=sum(one.said.startswith((CUT_SHORT, REPEATED)) for one in failed),
        longest=max((one.seconds for one in affected), default=0.0),
        after=recovery_time(results, begun),
        helped=tuple(restarted),
        requests=tuple(affected),
    )


def recovery_time(
    results: Sequence[Attempt], begun: float, pending: Sequence[Attempt] = ()
) -> float | None:
    """Seconds from `begun` to the first answer after the last request that failed or was late.

    0 if none was. None while one of the last STEADY is. `pending` requests count as if they were
    answered now.
    """
    usual = [one.seconds for one in results if one.ok and one.at + one.seconds < begun]
    limit = LATE_FACTOR * max(usual, default=0.0) + LATE_MARGIN
    late = [one for one in pending if one.seconds > limit]
    affected = [one for one in (*results, *late) if one.at + one.seconds >= begun]
    affected.sort(key=lambda one: one.at)
    disturbed = [i for i, one in enumerate(affected) if not one.ok or one.seconds > limit]
    if not disturbed:
        return 0.0 if len(affected) >= STEADY else None
    undisturbed = affected[disturbed[-1] + 1 :]
    if len(undisturbed) < STEADY:
        return None
    return min(one.at + one.seconds for one in undisturbed) - begun


def _status(result: Attempt) -> str:
    named = {NO_CONNECTION: "no connection", LATE: "no answer in time"}
    if result.status == 200:
        if result.said == EMPTY:
            return "200 and nothing"
        for what, status in ((CUT_SHORT, "200 and cut short"), (REPEATED, "200 and repetitions")):
            if result.said.startswith(what):
                return status
        return "200 and broken off"
    return named.get(result.status, str(result.status))
