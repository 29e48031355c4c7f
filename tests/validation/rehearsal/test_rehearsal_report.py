"""What a rehearsal's report says, and its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import html5lib
import pytest

from common.errors import UserError
from validation.endpoint.verify import FAILED, OK, Result
from validation.rehearsal import html_report
from validation.rehearsal.fault_outcome import FaultOutcome
from validation.rehearsal.load_generator import Attempt
from validation.rehearsal.rehearsal_report import (
    CHECKS,
    Event,
    RehearsalReport,
    report_data,
    report_text,
)


def outcome(**changes: Any) -> FaultOutcome:
    fields: dict[str, Any] = {
        "fault": "decode-0 (decode): killed",
        "kind": "killed",
        "whom": ("decode-0",),
        "begun": 105.0,
        "sent": 9,
        "failed": 2,
        "statuses": {"500": 2},
        "hung": 0,
        "empty": 0,
        "wrong": 0,
        "longest": 1.25,
        "after": 3.5,
        "requests": (
            Attempt(101.0, 0.1, 200, True),
            Attempt(102.0, 0.1, 500, False, "<gone>"),
        ),
    }
    return FaultOutcome(**{**fields, **changes})


def report(*outcomes: FaultOutcome, **changes: Any) -> RehearsalReport:
    made = RehearsalReport("pd", 100.0, ("no weights are mounted",), seconds=10.0, ready=4.0)
    made.events += [
        Event(1.0, "decode-0", "running starting"),
        Event(3.0, "decode-0", "running healthy"),
        Event(5.0, "decode-0", "killed"),
        Event(6.0, "decode-0", "restarting"),
        Event(4.0, "", "ready"),
    ]
    made.checks.append(Result("health", OK, "200", 0.1))
    made.outcomes += outcomes
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_fault_that_clients_see_and_that_ends_is_no_failure() -> None:
    made = report(outcome())
    assert made.passed
    text = report_text(made)
    assert "2 of 9 requests failed, 2 with 500" in text
    assert "served again after 3.5 s" in text
    assert text.endswith("passed in 10 s, ready after 4 s")


@pytest.mark.parametrize(
    "bad",
    [{"after": None}, {"hung": 1}, {"empty": 1}, {"wrong": 1}, {"helped": ("decode-0",)}],
    ids=lambda bad: next(iter(bad)),
)
def test_what_hangs_is_empty_or_stays_down_is_a_failure(bad: dict[str, Any]) -> None:
    made = report(outcome(**bad))
    assert not made.passed
    assert report_data(made)["passed"] is False


def test_without_checks_or_with_a_failed_one_nothing_has_passed() -> None:
    assert not report(checks=[]).passed
    assert not report(checks=[Result("health", FAILED, "503", 0.1)]).passed
    assert not report(failure="node1: exit code 1").passed


def test_the_lanes_follow_the_states() -> None:
    states, faults, requests = html_report.lanes(report(outcome()))
    assert [(one.kind, one.left, one.width) for one in states.spans] == [
        ("pending", 10.0, 20.0),
        ("good", 30.0, 30.0),
        ("bad", 60.0, 40.0),
    ]
    assert [(one.kind, one.left, one.width) for one in faults.spans] == [("pending", 50.0, 35.0)]
    assert [one.kind for one in requests.spans] == ["good", "bad"]
    assert requests.spans[0].left == 10.0


def test_the_requests_of_the_checks_have_a_lane() -> None:
    made = report()
    made.events += [Event(5.0, CHECKS, "ok: health", 1.0), Event(9.0, CHECKS, "failed: chat", 2.0)]
    states, asked = html_report.lanes(made)
    assert len(states.spans) == 3
    assert asked.name == "checks"
    assert [(one.kind, one.left, one.width) for one in asked.spans] == [
        ("good", 40.0, 10.0),
        ("bad", 70.0, 20.0),
    ]


def test_the_page_is_well_formed_and_escapes_what_it_shows() -> None:
    made = html_report.html(report(outcome(), logs={"decode-0": "<script>alert(1)</script>"}))
    html5lib.HTMLParser(strict=True).parse(made)
    assert "<script" not in made
    assert "Rehearsal of pd" in made


def test_a_fault_that_does_not_end_is_drawn_to_the_end() -> None:
    _, faults, _ = html_report.lanes(report(outcome(after=None)))
    assert [(one.kind, one.left, one.width) for one in faults.spans] == [("bad", 50.0, 50.0)]


def test_the_page_tells_each_fault_in_a_row() -> None:
    made = html_report.html(report(outcome(hung=3, helped=("decode-0",), after=None)))
    row = made[made.index("<td>decode-0 (decode): killed</td>") :].partition("</tr>")[0]
    cells = [cell.partition("<")[0] for cell in row.split("<td>")[1:]]
    assert cells[1:] == [
        *("5 s", "did not serve again", "9", "2", "3", "0", "0", "1.2 s"),
        *("2 with 500", "decode-0 started by hand"),
    ]


def test_the_data_of_a_fault_are_whole() -> None:
    (one,) = report_data(report(outcome()))["faults"]
    assert json.loads(json.dumps(one)) == {
        "fault": "decode-0 (decode): killed",
        "kind": "killed",
        "whom": ["decode-0"],
        "begun": 5.0,
        "sent": 9,
        "failed": 2,
        "statuses": {"500": 2},
        "hung": 0,
        "empty": 0,
        "wrong": 0,
        "longest": 1.25,
        "after": 3.5,
        "helped": [],
        "good": True,
        "requests": [
            {"at": 1.0, "seconds": 0.1, "status": 200, "ok": True, "said": ""},
            {"at": 2.0, "seconds": 0.1, "status": 500, "ok": False, "said": "<gone>"},
        ],
    }


def test_a_page_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        html_report.write(report(), tmp_path / "file" / "page.html")
    assert html_report.write(
        report(), tmp_path / "new" / "page.html"
    ).read_text() == html_report.html(report())
