"""What clients saw of a fault: counted, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from validation.rehearsal.load import CUT_SHORT, EMPTY, LATE, NOBODY, REPEATED, Seen

STEADY = 6  # undisturbed answers in a row after which the cluster serves again
# An answer is late when it takes so many times the usual seconds, and so many more.
TIMES, MORE = 2.0, 1.0


@dataclass(frozen=True)
class Outcome:
    """What clients saw. `begun`: when it was done, on the clock of the requests (time.monotonic).

    `sent`, `failed`: requests that were under way then or sent later. `statuses`: what clients got
    → number of failed requests. `hung`: those beyond their deadline; `empty`: with 200 and nothing;
    `wrong`: with 200 and, without a sign of it, less or more than the whole answer. `longest`:
    seconds of the slowest. `after`: seconds until it served again, None when it did not.
    `helped`: what had to be started by hand.
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
    requests: tuple[Seen, ...] = field(default=(), repr=False)

    @property
    def good(self) -> bool:
        """Failures were honest, nothing hung, and it serves again without a hand."""
        return self.after is not None and not (self.hung or self.empty or self.wrong or self.helped)


def outcome(
    fault: str,
    kind: str,
    whom: tuple[str, ...],
    seen: Sequence[Seen],
    begun: float,
    helped: Sequence[str] = (),
) -> Outcome:
    """Of all requests `seen`, those before the fault say what is usual."""
    met = [one for one in seen if one.at + one.seconds >= begun]
    bad = [one for one in met if not one.ok]
    return Outcome(
        fault=fault,
        kind=kind,
        whom=whom,
        begun=begun,
        sent=len(met),
        failed=len(bad),
        statuses=dict(Counter(map(_status, bad))),
        hung=sum(one.status == LATE for one in bad),
        empty=sum(one.said == EMPTY for one in bad),
        wrong=sum(one.said.startswith((CUT_SHORT, REPEATED)) for one in bad),
        longest=max((one.seconds for one in met), default=0.0),
        after=again(seen, begun),
        helped=tuple(helped),
        requests=tuple(met),
    )


def again(seen: Sequence[Seen], begun: float, under_way: Sequence[Seen] = ()) -> float | None:
    """Seconds from `begun` to the first answer after which no request that was sent was disturbed:
    failed, or was late; 0 when none was. None while one of the last ones is.

    `under_way`: requests without an answer yet, as if they were answered now.
    """
    usual = [one.seconds for one in seen if one.ok and one.at + one.seconds < begun]
    limit = TIMES * max(usual, default=0.0) + MORE
    late = [one for one in under_way if one.seconds > limit]
    met = [one for one in (*seen, *late) if one.at + one.seconds >= begun]
    met.sort(key=lambda one: one.at)
    disturbed = [at for at, one in enumerate(met) if not one.ok or one.seconds > limit]
    if not disturbed:
        return 0.0 if len(met) >= STEADY else None
    since = met[disturbed[-1] + 1 :]
    if len(since) < STEADY:
        return None
    return min(one.at + one.seconds for one in since) - begun


def told(outcome: Outcome) -> str:
    """It in words."""
    parts = [f"{outcome.failed} of {outcome.sent} requests failed"]
    parts += [f"{number} with {status}" for status, number in outcome.statuses.items()]
    parts.append(f"the slowest took {outcome.longest:.1f} s")
    return ", ".join([*parts, recovery(outcome), *by_hand(outcome)])


def recovery(outcome: Outcome) -> str:
    """How long until it served again, in words."""
    if outcome.after is None:
        return "it did not serve again"
    return f"served again after {outcome.after:.1f} s" if outcome.after else "never stopped"


def by_hand(outcome: Outcome) -> list[str]:
    """What had to be done, in words."""
    return [f"{name} started by hand" for name in outcome.helped]


def _status(seen: Seen) -> str:
    named = {NOBODY: "no connection", LATE: "no answer in time"}
    if seen.status == 200:
        if seen.said == EMPTY:
            return "200 and nothing"
        for what, words in ((CUT_SHORT, "200 and cut short"), (REPEATED, "200 and repetitions")):
            if seen.said.startswith(what):
                return words
        return "200 and broken off"
    return named.get(seen.status, str(seen.status))
