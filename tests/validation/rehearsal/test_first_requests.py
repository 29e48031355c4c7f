"""The requests before all others."""

from __future__ import annotations

import pytest

from validation.endpoint.verify import FAILED, OK
from validation.rehearsal import rehearse
from validation.rehearsal.load_generator import Attempt


def seen(monkeypatch: pytest.MonkeyPatch, answers: list[bool]) -> tuple[str, str, list[str]]:
    left, prompts = iter(answers), list[str]()

    def ask(url: str, model: str, prompt: str, headers: dict[str, str]) -> Attempt:
        prompts.append(prompt)
        return (
            Attempt(0.0, 1.0, 200, True) if next(left) else Attempt(0.0, 1.0, 500, False, "no KV")
        )

    monkeypatch.setattr(rehearse, "ask", ask)
    result = rehearse.warm_up("http://x", "m", "", 3)
    assert next(left, None) is None
    return result.state, result.message, prompts


def test_one_of_each_server(monkeypatch: pytest.MonkeyPatch) -> None:
    state, said, prompts = seen(monkeypatch, [True] * 3)
    assert (state, said) == (OK, "3 answered in a row")
    assert len(set(prompts)) == 3


def test_some_may_fail_while_servers_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    state, said, prompts = seen(monkeypatch, [False, True, False, True, True, True])
    assert (state, said) == (OK, "3 answered in a row after 2 failed")
    assert len(set(prompts)) == 6


def test_a_cluster_that_goes_on_failing_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    state, said, _ = seen(monkeypatch, [True, True, *[False] * rehearse.WARM_UP_FAILURES])
    assert state == FAILED
    assert said == f"0 answered in a row after {rehearse.WARM_UP_FAILURES} failed, the last: no KV"
