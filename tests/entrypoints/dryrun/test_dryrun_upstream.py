"""What the dry run does around upstream's code, without it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from entrypoints.dryrun.upstream import forks, words
from entrypoints.dryrun.upstream.recording import Recorded

PLATFORM = "/opt/vllm/lib/python3.11/site-packages/vllm_ascend/platform.py"
TORCH = "/opt/vllm/lib/python3.11/site-packages/torch/functional.py"


def call(code: str, filename: str, module: str = "vllm_ascend.platform", **names: Any) -> Any:
    """Run code as a line of another package's module."""
    space = {"__name__": module, **names}
    exec(compile(code, filename, "exec"), space)
    return space.get("answer")


def caught(code: str, filename: str) -> dict[str, Any]:
    try:
        call(code, filename)
    except Exception as error:
        return words.of(error, "model")
    raise AssertionError("nothing was raised")


def test_a_refusal_has_upstreams_words_and_line() -> None:
    found = caught("\n\nraise ValueError('tp 7\\n  does not divide 64')", PLATFORM)
    assert found["message"] == "tp 7 does not divide 64"
    assert found["at"] == "vllm_ascend/platform.py:3"
    assert found["judged"]


@pytest.mark.parametrize("code", ["None.missing", "len(3)", "import no_such_module"])
def test_what_a_stand_in_lacks_is_not_judged(code: str) -> None:
    assert not caught(code, PLATFORM)["judged"]


def test_what_another_package_raises_is_not_judged() -> None:
    assert not caught("raise ValueError('x')", TORCH)["judged"]


def test_a_key_error_says_what_it_is() -> None:
    assert caught("{}['FULL']", PLATFORM)["message"] == "KeyError: 'FULL'"


def test_a_wrapped_error_is_found() -> None:
    """As pydantic wraps it: the cause is in the context of a detail."""

    class Wrapper(Exception):
        def errors(self) -> list[dict[str, Any]]:
            return [{"msg": "Value error, no", "loc": ("size",), "ctx": {"error": self.cause}}]

        cause: BaseException

    wrapper = Wrapper()
    with pytest.raises(ValueError, match="no") as raised:
        call("raise ValueError('no')", PLATFORM)
    wrapper.cause = raised.value
    found = words.of(wrapper, "configuration")
    assert found["message"] == "size: Value error, no"
    assert found["at"] == "vllm_ascend/platform.py:1"
    assert found["judged"]


def test_log_lines_are_collected_once_and_plain() -> None:
    log = words.Log()
    for _ in range(2):
        for level, path in ((30, PLATFORM), (20, PLATFORM), (20, TORCH)):
            log.emit(
                logging.LogRecord("x", level, path, 7, "\x1b[91m\n *** \n * do %s *", ("it",), None)
            )
    found = list(log.findings("configuration"))
    assert [(one["severity"], one["message"], one["at"]) for one in found] == [
        ("note", "do it", "vllm_ascend/platform.py:7")
    ]
    assert not list(log.findings("configuration"))


@pytest.mark.parametrize(
    ("code", "unread"),
    [
        ("config.get('a')", ["b", "c"]),
        ("'b' in config; config['c']", ["a", "b.inner"]),
        ("config['b']['inner'], config.pop('a', None)", ["c"]),
        ("dict(**config)", ["b.inner"]),
        ("[key for key in config.keys()]", ["b.inner"]),
        ("[value for key, value in config.items()]", ["b.inner"]),
    ],
)
def test_keys_that_vllm_ascend_asks_for(code: str, unread: list[str]) -> None:
    config = Recorded({"a": 1, "b": {"inner": 2}, "c": 3})
    call(code, PLATFORM, config=config)
    assert [one for one in config.unread() if one in unread] == unread


def test_vllm_prints_and_hashes_without_reading() -> None:
    config = Recorded({"a": 1})
    call("str(config), list(config.items())", PLATFORM, "vllm.config.vllm", config=config)
    assert list(config.unread()) == ["a"]


def test_a_question_through_vllms_configuration_counts() -> None:
    config = Recorded({"a": 1})
    through = "def get(config, key): return config.get(key)"
    space: dict[str, Any] = {"__name__": "vllm.config.kv_transfer"}
    exec(through, space)
    call("get(config, 'a')", PLATFORM, get=space["get"], config=config)
    assert not list(config.unread())


def test_a_fork_answers_and_leaves_this_process_alone(tmp_path: Path) -> None:
    here: list[int] = []

    def work(number: int) -> list[int]:
        here.append(number)
        return here

    assert forks.Fork(work, 3).result() == [3]
    assert here == []


def test_a_fork_that_fails() -> None:
    def work() -> None:
        raise RuntimeError

    with pytest.raises(forks.Ended, match="ended with 1"):
        forks.Fork(work).result()
