"""Budgets: what is refused in the file, and what is said of an image that is too large."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import invoke
import pytest
import yaml

from commands import inspect
from common.errors import UserError
from images.build import budgets
from images.build.budgets import Budget, Budgets, Key
from images.build.compressed_size import CompressedSize
from images.contents import cache
from images.inspect import budget as measured
from images.matrix import CPU, Matrix
from tests.images import hand_made

KEY = Key("v0.13.0rc1", "a3", "ubuntu22.04", "amd64", "stand-in", "zstd")
ENTRY = {
    **vars(KEY),
    "baseline": {"base 1": 50.0, "torch": 300.0, "vllm": 10.0},
    "image": 370.0,
    "layers": {"torch": 310.0},
}
MB = 1_000_000
FIX = "(make it smaller, or raise the budget in images/build/budgets.yaml and say why)"


@pytest.fixture
def written(matrix: Matrix, tmp_path: Path) -> Callable[..., Budgets]:
    """What is read from a budgets.yaml with these entries."""

    def read(*entries: object) -> Budgets:
        path = tmp_path / "budgets.yaml"
        path.write_text(yaml.safe_dump({"budgets": list(entries)}))
        return budgets.load(matrix, path)

    return read


def lines(verdict: budgets.Verdict) -> list[str]:
    return [str(problem) for problem in verdict.problems]


def test_the_committed_budgets_are_good(matrix: Matrix) -> None:
    committed = budgets.load(matrix)
    assert committed
    for budget in committed.values():
        assert budget.image is not None, budget.key
        assert budget.key.base in ("stand-in", "debian")  # others cannot be measured yet


def test_a_vllm_for_the_processor_has_a_budget_of_its_own(
    matrix: Matrix, written: Callable[..., Budgets]
) -> None:
    variant = matrix.variant(None, CPU, "", "0.32.0")
    key = Key.of(variant, "debian", CompressedSize("amd64", "zstd", {}))
    assert str(key) == "cpu-0.32.0 cpu bookworm amd64 on debian, zstd"
    assert key in written({**ENTRY, **vars(key)})
    with pytest.raises(UserError) as raised:
        written({**ENTRY, **vars(key), "release": "v0.13.0rc1", "base": "stand-in"})
    told = [str(one) for one in raised.value.findings]
    assert len(told) == 2
    assert "'v0.13.0rc1' is not known" in told[0]


def test_within_its_budget(written: Callable[..., Budgets]) -> None:
    sizes = {"base 1": 50 * MB, "torch": 305 * MB, "vllm": 10 * MB}
    verdict = budgets.check(written(ENTRY), "x:1", KEY, sizes)
    assert not verdict.problems
    assert verdict.known
    assert (verdict.size, verdict.limit) == (365.0, 370.0)
    assert verdict.layers[1] == ("torch", 305.0, 300.0)
    budgets.enforce([verdict])


def test_over_its_budget_names_the_layers_that_grew(written: Callable[..., Budgets]) -> None:
    sizes = {"base 1": 40 * MB, "torch": 308 * MB, "vllm": 13 * MB, "proxy": 20 * MB}
    verdict = budgets.check(written(ENTRY), "x:1", KEY, sizes)
    assert lines(verdict) == [
        "x:1: is 381.0 MB compressed, 11.0 MB over its budget of 370.0 MB; proxy is new, 20.0 MB, "
        f"torch grew from 300.0 MB to 308.0 MB, vllm grew from 10.0 MB to 13.0 MB {FIX}"
    ]
    with pytest.raises(UserError) as raised:
        budgets.enforce([verdict])
    assert raised.value.exit_code == 65


def test_a_layer_over_its_own_budget(written: Callable[..., Budgets]) -> None:
    sizes = {"base 1": 40 * MB, "torch": 311 * MB, "vllm": 10 * MB}
    assert lines(budgets.check(written(ENTRY), "x:1", KEY, sizes)) == [
        f"x:1: layer torch: is 311.0 MB compressed, 1.0 MB over its 310.0 MB; it was 300.0 MB {FIX}"
    ]


@pytest.mark.parametrize("field", list(vars(KEY)))
def test_another_variant_has_another_budget(written: Callable[..., Budgets], field: str) -> None:
    other = Key(**{**vars(KEY), field: "other"})
    verdict = budgets.check(written(ENTRY), "x:1", other, {"torch": 999 * MB})
    assert not verdict.known
    assert not verdict.problems
    assert verdict.limit is None


def test_a_baseline_alone_refuses_nothing(written: Callable[..., Budgets]) -> None:
    found = written({**vars(KEY), "baseline": {"torch": 1.0}})
    verdict = budgets.check(found, "x:1", KEY, {"torch": 999 * MB})
    assert verdict.known
    assert not verdict.problems


def test_a_measured_entry_reads_back(written: Callable[..., Budgets]) -> None:
    text = measured.entries_text(measured.entries([hand_made.image()]))
    (found,) = written(*yaml.safe_load(text)).values()
    assert found.key == KEY
    assert found.baseline == {"base 1": 55.6, "torch": 793.1, "vllm": 9.1, "entrypoint": 0.2}
    assert found.image is None


def test_every_problem_of_the_file_is_said(
    written: Callable[..., Budgets], problems_of: Callable[..., list[str]]
) -> None:
    wrong = {
        "release": "v0.13.0rc2",
        "platform": "a5",
        "os": ["ubuntu22.04"],
        "base": "standin",
        "compression": "gzip",
        "baseline": {"torch": -1, "vllm": "10 MB"},
        "image": float("inf"),
        "layers": {"mooncake": 3},
        "budget": 4,
    }
    unmeasured = {**ENTRY, "arch": "arm64", "layers": {"mooncake": 3}}
    assert problems_of(lambda: written(ENTRY, wrong, "x", ENTRY, unmeasured), 65) == [
        "budgets.yaml: budgets[1].budget: unknown key (known: release, platform, os, arch, base, "
        "compression, baseline, image, layers)",
        "budgets.yaml: budgets[1].arch: is missing",
        "budgets.yaml: budgets[1].os: must be a string, is ['ubuntu22.04'] (list) (quote it)",
        "budgets.yaml: budgets[1].baseline.torch: must be a number of MB, is -1 (int)",
        "budgets.yaml: budgets[1].baseline.vllm: must be a number of MB, is '10 MB' (str)",
        "budgets.yaml: budgets[1].image: must be a number of MB, is inf (float)",
        "budgets.yaml: budgets[1].release: 'v0.13.0rc2' is not known (did you mean v0.13.0rc1 or "
        "v0.13.0?)",
        "budgets.yaml: budgets[1].os: '['ubuntu22.04']' is not known (did you mean ubuntu22.04?)",
        "budgets.yaml: budgets[1].base: 'standin' is not known (did you mean stand-in?)",
        "budgets.yaml: budgets[2]: must be a mapping, is 'x' (str)",
        "budgets.yaml: budgets[3]: a second budget for v0.13.0rc1 a3 ubuntu22.04 amd64 on stand-in,"
        " zstd",
        "budgets.yaml: budgets[4].layers.mooncake: has no baseline (known: base 1, torch, vllm)",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("budgets: {}", "budgets.yaml: budgets: must be a list, is {} (dict)"),
        ("budget: []", "budgets.yaml: budget: unknown key (did you mean budgets?)"),
        ("budgets: [", "budgets.yaml: is not YAML"),
        ("budgets: []\nbudgets: []", "the key 'budgets' is repeated"),
    ],
)
def test_a_file_that_is_none(
    matrix: Matrix,
    tmp_path: Path,
    problems_of: Callable[..., list[str]],
    text: str,
    problem: str,
) -> None:
    path = tmp_path / "budgets.yaml"
    path.write_text(text)
    found = problems_of(lambda: budgets.load(matrix, path), 65)
    assert problem in found[0]


def test_a_limit_below_what_was_measured(
    written: Callable[..., Budgets], problems_of: Callable[..., list[str]]
) -> None:
    low = {**ENTRY, "image": 350, "layers": {"torch": 299}}
    assert problems_of(lambda: written(low), 65) == [
        "budgets.yaml: budgets[0].layers.torch: is below its baseline of 300.0 MB",
        "budgets.yaml: budgets[0].image: 350 MB is below its baseline of 360.0 MB",
    ]


def test_the_command_ends_with_65_and_names_what_grew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = hand_made.Layout(tmp_path / "layout")
    reference = layout.tag("v1", layout.image(hand_made.layers(), **hand_made.config()))
    monkeypatch.setattr(cache, "CACHE", tmp_path / "kept")
    limited = Budget(**vars(KEY), baseline={"torch": 0.0001}, image=0.001)
    monkeypatch.setattr(budgets, "load", lambda matrix: {KEY: limited})
    with pytest.raises(invoke.Exit) as ended:
        inspect.inspect(image=reference, budget=True, format="json")
    assert ended.value.code == 65
    out, err = capsys.readouterr()
    assert "over its budget of 0.0 MB" in err
    (shown,) = json.loads(out)
    assert shown["budget"] == 0.001
    assert shown["problems"]
