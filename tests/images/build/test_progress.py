"""BuildKit's events, as steps with their stages, times and failures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from images.build.progress import EXPORT, Progress, Step

SAMPLE = Path(__file__).parent / "samples" / "failed.rawjson"
RUN = "RUN sh /stages/mirrors.sh python3 /stages/layer.py"


def _fed(text: str) -> Progress:
    progress = Progress(io.StringIO())
    with progress:
        for line in text.splitlines(keepends=True):
            progress.feed(line)
    return progress


def _events(*vertexes: dict[str, Any], logs: list[dict[str, Any]] | None = None) -> str:
    return "".join(
        json.dumps(event, indent=2) + "\n"
        for event in ({"vertexes": list(vertexes)}, {"logs": logs or []})
    )


@pytest.fixture
def sample() -> Progress:
    return _fed(SAMPLE.read_text())


def test_the_sample_is_as_buildx_writes_it() -> None:
    """An event spans lines, from a lone { to a lone }, and words follow."""
    lines = SAMPLE.read_text().splitlines()
    assert lines.count("{") == lines.count("}") == 9
    assert lines[0] == "{"
    assert lines[-1].startswith("ERROR: failed to solve: ")


def test_every_step_is_remembered(sample: Progress) -> None:
    steps = {step.stage: step for step in sample.steps.values()}
    assert set(steps) == {"", "tools", "layer-torch", "layer-libraries", "image", EXPORT}
    assert steps["layer-libraries"].error.startswith("process ")
    assert steps["layer-torch"].log == []
    assert steps[EXPORT].started is None


def test_seconds_of_each_stage(sample: Progress) -> None:
    seconds = sample.stage_seconds()
    assert seconds["tools"] == pytest.approx(3.5)
    assert seconds["layer-libraries"] == pytest.approx(2.5, abs=0.001)
    assert seconds["layer-torch"] == pytest.approx(2.6)
    assert seconds["image"] == seconds[EXPORT] == 0.0


def test_a_step_that_was_cancelled_is_no_cause(sample: Progress) -> None:
    assert [step.stage for step in sample.failed()] == ["layer-libraries"]


def test_logs_come_line_by_line_without_blanks(sample: Progress) -> None:
    (step,) = sample.failed()
    assert step.log == [
        "Resolved 11 packages in 2ms",
        "Downloading numpy (13.6MiB)",
        "error: Failed to fetch `numpy`",
        "  Hash mismatch for `numpy==1.26.4`",
        "  Expected:",
        "    sha256:aaaa",
        "  Computed:",
        "    sha256:bbbb",
    ]


def test_words_are_no_events(sample: Progress) -> None:
    assert sample.messages[0] == "v0_13_0rc1-a3.Dockerfile:19"
    assert sample.messages[-1].startswith("ERROR: failed to solve: process ")


def test_what_is_shown_while_it_works(sample: Progress) -> None:
    assert isinstance(sample.out, io.StringIO)
    lines = sample.out.getvalue().splitlines()
    assert [line[:32] for line in lines] == [
        "cached [tools 1/2] FROM docker.i",
        " 3.5s [tools 2/2] RUN python3 -m",
        "FAILED [layer-libraries 1/1] RUN",
    ], "layer-torch was cancelled, and did not fail"
    assert all(len(line) <= 200 for line in lines)


def test_a_step_that_was_cancelled_did_not_fail_of_itself() -> None:
    cancelled = {"digest": "1", "name": f"[a 1/1] {RUN}", "error": "context canceled"}
    assert _fed(_events(cancelled)).failed() == []
    assert [step.stage for step in _fed(_events(cancelled)).cancelled()] == ["a"]
    assert _fed(_events({"digest": "1", "name": "[a 1/1] x"})).failed() == []


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        (f"[layer-torch 1/1] {RUN}", "layer-torch"),
        (f"[layer-torch  2/12] {RUN}", "layer-torch"),
        ("[image  3/9] COPY --link --from=layer-torch /out/ /", "image"),
        ("[image 3/9] LINK COPY --link --from=layer-torch /out/ /", "image"),
        (f"[v0_13_0rc1-a3 layer-torch 1/1] {RUN}", "layer-torch"),
        (f"[linux/arm64 layer-torch 1/1] {RUN}", "layer-torch"),
        (f"[linux/amd64->arm64 layer-torch 1/1] {RUN}", "layer-torch"),
        (f"[v0_13_0rc1-a3 linux/arm64 layer-torch 1/1] {RUN}", "layer-torch"),
        (f"[v0_13_0rc1-a3 linux/amd64->arm64 build-mooncake 2/3] {RUN}", "build-mooncake"),
        ("exporting to image", EXPORT),
        ("[auth] library/python:pull token for registry.example.com", EXPORT),
        ("pushing layers", EXPORT),
        ("[internal] load build definition from Dockerfile", ""),
        ("[v0_13_0rc1-a3 internal] load build definition from Dockerfile", ""),
        ("[context locks] load from client", ""),
        *(
            pytest.param(
                name,
                EXPORT,
            )
            for name in (
                "[v0_13_0rc1-a3] exporting to image",
                "[v0_13_0rc1-a3] pushing layers",
                "[v0_13_0rc1-a3 auth] library/python:pull token for registry.example.com",
            )
        ),
    ],
)
def test_the_stage_of_a_step(name: str, stage: str) -> None:
    assert Step(name).stage == stage


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (
            "[layer-torch 1/1] RUN --mount=type=bind,from=a --mount=type=secret,id=b sh x --arch y",
            "[layer-torch 1/1] RUN sh x --arch y",
        ),
        ("[image 1/9] COPY --link --from=layer-torch /out/ /", "[image 1/9] COPY /out/ /"),
        ("exporting to image", "exporting to image"),
    ],
)
def test_the_title_of_a_step_is_what_it_does(name: str, title: str) -> None:
    assert Step(name).title == title


@pytest.mark.parametrize(
    "name",
    [
        "[internal] load .dockerignore",
        "[context locks] load from client",
        pytest.param(
            "[v0_13_0rc1-a3 internal] load .dockerignore",
        ),
    ],
)
def test_buildkits_own_steps_are_not_shown(name: str) -> None:
    progress = _fed(
        _events(
            {
                "digest": "1",
                "name": name,
                "started": "2026-01-05T10:00:00Z",
                "completed": "2026-01-05T10:00:01Z",
            }
        )
    )
    assert isinstance(progress.out, io.StringIO)
    assert progress.out.getvalue() == ""


@pytest.mark.parametrize(
    ("started", "completed", "seconds"),
    [
        ("2026-01-05T10:00:00Z", "2026-01-05T10:00:01Z", 1.0),
        ("2026-01-05T10:00:00.5Z", "2026-01-05T10:00:01.25Z", 0.75),
        ("2026-01-05T10:00:00.123456789Z", "2026-01-05T10:00:00.223456789Z", 0.1),
        ("2026-01-05T23:59:59.9Z", "2026-01-06T00:00:00.1Z", 0.2),
        ("2026-01-05T12:00:00.5+02:00", "2026-01-05T10:00:01.5Z", 1.0),
        ("2026-01-05T10:00:00Z", None, 0.0),
        (None, None, 0.0),
    ],
)
def test_times_in_every_form(started: str | None, completed: str | None, seconds: float) -> None:
    vertex = {"digest": "1", "name": "[a 1/1] x", "started": started, "completed": completed}
    (step,) = _fed(_events(vertex)).steps.values()
    assert step.seconds == pytest.approx(seconds)


def test_a_cached_step_costs_nothing() -> None:
    vertex = {
        "digest": "1",
        "name": "[a 1/1] x",
        "started": "2026-01-05T10:00:00Z",
        "completed": "2026-01-05T10:00:09Z",
        "cached": True,
    }
    assert _fed(_events(vertex)).stage_seconds() == {"a": 0.0}


def test_a_step_that_a_later_bake_reuses_costs_what_it_took() -> None:
    ran = {
        "digest": "1",
        "name": "[a 1/1] x",
        "started": "2026-01-05T10:00:00Z",
        "completed": "2026-01-05T10:00:09Z",
    }
    reused = {**ran, "started": "2026-01-05T10:01:00Z", "completed": "2026-01-05T10:01:00Z"}
    progress = _fed(_events(ran) + _events({**reused, "cached": True}))
    assert progress.stage_seconds() == {"a": 9.0}


def test_steps_of_a_stage_add_up_and_a_step_told_twice_counts_once() -> None:
    first, second = (
        {
            "digest": digest,
            "name": f"[a {digest}/2] x",
            "started": "2026-01-05T10:00:00Z",
            "completed": "2026-01-05T10:00:02Z",
        }
        for digest in "12"
    )
    progress = _fed(_events(first, second) + _events(second))
    assert progress.stage_seconds() == {"a": 4.0}
    assert isinstance(progress.out, io.StringIO)
    assert len(progress.out.getvalue().splitlines()) == 2


def test_a_log_before_its_step_and_bytes_that_are_no_text() -> None:
    log = {"vertex": "1", "data": "//4K"}
    progress = _fed(_events(logs=[log]) + _events({"digest": "1", "name": "[a 1/1] x"}))
    (step,) = progress.steps.values()
    assert (step.name, step.log) == ("[a 1/1] x", ["\ufffd\ufffd"])
