"""Which figures of upstream's tests belong to a recipe."""

from __future__ import annotations

import json

from entrypoints.inputs import baselines, data, recipes
from entrypoints.inputs.baselines import Figure

W8A8 = "qwen3-235b-a22b-w8a8"


def figures(name: str) -> list[Figure]:
    return baselines.of(recipes.load(name))


def test_the_figures_of_a_configuration_by_release() -> None:
    old, new = figures(f"{W8A8}/nightly-eplb-a3")
    assert (old.release, new.release) == ("v0.18.0", "v0.23.0.post1")
    assert old.configuration == new.configuration == "Qwen3-235B-A22B-W8A8-EPLB"
    assert (new.metric, new.baseline, new.threshold, new.platforms) == ("accuracy", 95, 10, ("a3",))
    assert (new.target, new.schedule) == ("accuracy 95 ± 10 % of gsm8k-lite", "nightly")
    assert new.sends == "32 at once, at most 32768 tokens out"
    assert new.source.startswith("vllm-ascend v0.23.0.post1: tests/e2e/nightly/single_node/")


def test_a_throughput() -> None:
    (one,) = figures(f"{W8A8}/pd-dp32-6k-a3")
    assert (one.metric, one.baseline, one.threshold) == ("throughput", 3583.8747, 0.97)
    assert (one.schedule, one.platforms) == ("weekly", ("a3",))
    assert one.sends == "760 requests, 190 at once, at most 1500 tokens out"


def test_a_recipe_from_a_document_has_none() -> None:
    assert figures(f"{W8A8}/throughput-a3") == []
    assert baselines.of(recipes.load(json.dumps({"model": "m", "roles": {"single": {}}}))) == []


def test_configurations_are_of_known_releases_and_platforms() -> None:
    names = data.names("baselines")
    assert {"v0.18.0", "v0.23.0.post1"} <= set(names) <= set(data.names("releases"))
    for name in names:
        for one in data.read(data.path_of("baselines", f"{name}.yaml")):
            assert one["commands"] or one["file"].endswith("-EPD.yaml")
            assert set(one["platforms"]) <= {"a2", "a3", "a5", "310p"}


def test_a_recipe_is_for_the_platform_of_its_figures() -> None:
    for name in recipes.names():
        for one in figures(name):
            assert set(one.platforms) & set(recipes.load(name).platforms), one
            assert one.release in recipes.load(name).releases
