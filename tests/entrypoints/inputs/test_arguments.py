"""Flags: spelling, replacing, and that nothing gets lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.findings import Finding
from entrypoints.inputs import catalogue, stack
from entrypoints.inputs.arguments import Flag, from_value, is_flag, key_of, merge, parse, render

RELEASE = stack.release("v0.13.0", [])
assert RELEASE
KNOWN = catalogue.load(RELEASE)


def combined(base: list[str], *more: list[str]) -> list[str]:
    findings: list[Finding] = []
    flags = merge({}, parse(base, KNOWN.aliases, findings))
    for tokens in more:
        flags = merge(flags, parse(tokens, KNOWN.aliases, findings), KNOWN.repeatable)
    assert not findings
    return render(flags)


@pytest.mark.parametrize(
    ("base", "appended", "result"),
    [
        ("--seed 1 --x", "--seed 2", "--seed 2 --x"),
        ("--seed 1", "--seed=2", "--seed 2"),
        ("--max-num-seqs 1", "--max_num_seqs 2", "--max-num-seqs 2"),
        ("--tensor-parallel-size 8", "-tp 4", "--tensor-parallel-size 4"),
        ("--tensor-parallel-size 8", "-tp=4", "--tensor-parallel-size 4"),
        ("--quantization ascend", "-q none", "--quantization none"),
        ("--async-scheduling", "--no-async-scheduling", "--no-async-scheduling"),
        ("--no-enable-prefix-caching", "--enable_prefix_caching", "--enable-prefix-caching"),
        ("--seed 1", "--seed 2 --seed 3", "--seed 3"),
        ("--a 1", "--b -1", "--a 1 --b -1"),
        ("--served-model-name a", "--served-model-name b c", "--served-model-name b c"),
        ("--middleware a", "--middleware b --middleware c", "--middleware b --middleware c"),
        ("--a 1", "--chat-template=--odd", "--a 1 --chat-template=--odd"),
        ("--a 1", "-O3", "--a 1 -O3"),
        ('--c {"a":1}', '--c {"b":2}', '--c {"b":2}'),
        ('--c {"a":1}', "--c.b.d 2", '--c {"a":1,"b":{"d":2}}'),
        ('--c {"l":[1]}', "--c.l+ x,y --c.t=text", '--c {"l":[1,"x","y"],"t":"text"}'),
        ("--seed 1", "-cc.mode 3", '--seed 1 --compilation-config {"mode":3}'),
    ],
)
def test_replacing(base: str, appended: str, result: str) -> None:
    assert combined(base.split(), appended.split()) == result.split()


def test_values_keep_blanks_and_line_breaks() -> None:
    assert combined(["--t", "- a b\n", "--u="]) == ["--t", "- a b\n", "--u", ""]


@pytest.mark.parametrize("tokens", [["x"], ["--a.b"], ["--a.b", "1", "2"], ["--a..b", "1"]])
def test_refused(tokens: list[str]) -> None:
    findings: list[Finding] = []
    parse(tokens, KNOWN.aliases, findings)
    assert len(findings) == 1


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("x", True, Flag("--x")),
        ("x", False, Flag("--no-x")),
        ("no-x", True, Flag("--no-x")),
        ("no-x", False, Flag("--x")),
        ("x", 0.9, Flag("--x", ("0.9",))),
        ("x", [1, "a"], Flag("--x", ("1", "a"))),
        ("x", {"a": [1]}, Flag("--x", ('{"a":[1]}',))),
        ("x", [{"a": 1}], Flag("--x", ('[{"a":1}]',))),
    ],
)
def test_from_yaml(name: str, value: Any, flag: Any) -> None:
    assert from_value(name, value) == flag


names = st.from_regex(r"--[a-z][a-z0-9]{0,3}(-[a-z]{1,2})?", fullmatch=True)
values = st.one_of(
    st.text(max_size=8).filter(lambda text: not is_flag(text)),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2).map(json.dumps),
)
flags = st.builds(Flag, names, st.lists(values, max_size=2).map(tuple))


@given(st.lists(flags, max_size=6), st.lists(flags, max_size=6))
def test_last_wins_and_nothing_is_lost(base: list[Flag], over: list[Flag]) -> None:
    merged = merge(merge({}, base), over)
    last = {key_of(flag): flag for flag in [*base, *over]}
    assert {key: flag for key, (flag,) in merged.items()} == last
    assert list(merged) == list(dict.fromkeys(key_of(flag) for flag in [*base, *over]))


@given(st.lists(flags, max_size=6))
def test_render_and_parse_are_inverse(given_flags: list[Flag]) -> None:
    once = merge({}, given_flags)
    findings: list[Finding] = []
    again = merge({}, parse(render(once), KNOWN.aliases, findings))
    assert not findings
    assert again == once


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_tokens_are_flags_or_findings(tokens: list[str]) -> None:
    findings: list[Finding] = []
    render(merge({}, parse(tokens, KNOWN.aliases, findings), KNOWN.repeatable))
