"""What a bump reports about upstream's image, and about the recipes of the release before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from common.errors import EX_UNAVAILABLE, user_error
from entrypoints.inputs import arguments
from entrypoints.inputs.recipes import Block, Recipe
from images import matrix as matrices
from tests.upstream.sample_releases import bump, sources
from upstream.bump import bump_release, bump_report, recipe_effects
from upstream.bump.bump_release import BumpResult
from upstream.sources import Sources

NEW, PREVIOUS = "v0.17.0rc1", "v0.15.0rc1"
SNAPSHOT = """\
ENV OMP_NUM_THREADS=1 \\
    TASK_QUEUE_ENABLE=2
RUN export VLLM_BATCH_INVARIANT=1 && python3 -m pip install -e /w/vllm-ascend
COPY tools/daily.sh /tmp/
RUN bash /tmp/daily.sh
"""
DAILY = "pip install https://obs.example/torch_npu-2.9.0.dev7-cp311-cp311-linux.whl\n"


def changed(given: Sources, files: Mapping[str, str], **swaps: str) -> Sources:
    """Sources with files added, and with `swaps` made in every Dockerfile."""
    every = {**given.vllm_ascend.files, **files}
    for path in every:
        if path.startswith("Dockerfile"):
            for old, new in swaps.items():
                every[path] = every[path].replace(old, new)
            every[path] += SNAPSHOT if files else ""
    return dataclasses.replace(
        given, vllm_ascend=dataclasses.replace(given.vllm_ascend, files=every)
    )


@pytest.fixture
def done(tmp_path: Path) -> BumpResult:
    """A release on another registry, with ENV, a build variable and a script."""
    files = {"tools/daily.sh": DAILY, "setup.py": "env['VLLM_BATCH_INVARIANT']\n"}
    new = changed(sources(NEW), files, **{"quay.io/ascend": "swr.example/x"})
    ours = dataclasses.replace(
        bump(tmp_path, new), sources=lambda one: new if one == NEW else sources(one)
    )
    return bump_release.run(ours, NEW, False, True, lambda _: None)


def section(done: BumpResult, title: str) -> dict[str, tuple[str, Any, Any]]:
    (found,) = [one for one in done.changes if one.title == title]
    return {one.name: (one.how, one.before, one.after) for one in found.changes}


def test_the_variables_of_the_image_and_of_its_build(done: BumpResult) -> None:
    assert section(done, "variables of the image") == {
        "OMP_NUM_THREADS": ("new", None, "1"),
        "TASK_QUEUE_ENABLE": ("new", None, "2"),
    }
    assert section(done, "variables of its build") == {"VLLM_BATCH_INVARIANT": ("new", None, "1")}
    (question,) = [one for one in done.decisions if one.key.startswith("build_variables")]
    assert "setup.py:1 reads it" in question.question


def test_another_registry_is_told_and_becomes_a_pin(done: BumpResult, tmp_path: Path) -> None:
    assert section(done, "base images") == {
        "quay.io/ascend/cann": ("gone", None, None),
        "swr.example/x/cann": ("new", None, None),
    }
    assert section(done, "pins")["cann_image"] == ("new", None, "swr.example/x/cann")


def test_builds_start_from_the_registry_of_the_release() -> None:
    matrix = matrices.load()
    variant = matrix.variant("v0.18.0", "a3", "ubuntu22.04")
    assert matrix.cann_image(variant).startswith("quay.io/ascend/cann:8.5.1-a3-")
    other = dataclasses.replace(variant.release, cann_image="swr.example/x/cann")
    moved = dataclasses.replace(variant, release=other)
    assert matrix.cann_image(moved) == matrix.cann_image(variant).replace(
        "quay.io/ascend/cann", "swr.example/x/cann"
    )


def test_packages_that_a_script_replaces_are_asked_about(done: BumpResult) -> None:
    assert section(done, "packages that a script replaces") == {
        "torch-npu": ("new", None, "2.9.0.dev7")
    }
    (question,) = [one for one in done.decisions if one.key == "scripts"]
    assert "torch-npu 2.9.0.dev7 from https://obs.example/torch_npu-" in question.question
    assert "tools/daily.sh:1" in question.question
    (dispute,) = [one for one in done.contradictions if one.key == "torch_npu"]
    assert "2.9.0.dev7" in [value for value, _ in dispute.claims]


def test_the_report_has_them(done: BumpResult) -> None:
    text = bump_report.text(done)
    assert "TASK_QUEUE_ENABLE  none → 2  vllm-ascend v0.17.0rc1: Dockerfile.310p:" in text
    assert "  swr.example/x/cann   new " in text


def test_a_build_variable_of_the_release_before_is_settled(tmp_path: Path) -> None:
    files = {"tools/daily.sh": DAILY}
    ours = dataclasses.replace(
        bump(tmp_path, sources(NEW)), sources=lambda one: changed(sources(one), files)
    )
    done = bump_release.run(ours, NEW, False, True, lambda _: None)
    assert not [one for one in done.decisions if one.key.startswith("build_variables")]
    assert not section(done, "variables of its build")


def test_a_release_before_that_the_index_lacks(tmp_path: Path) -> None:
    def only_new(release: str) -> Sources:
        if release != NEW:
            raise user_error("vllm-ascend", "is not there", exit_code=EX_UNAVAILABLE)
        return sources(NEW)

    ours = dataclasses.replace(bump(tmp_path, sources(NEW)), sources=only_new)
    done = bump_release.run(ours, NEW, False, True, lambda _: None)
    assert [one.key for one in done.decisions if one.key == "image"] == ["image"]


# ---- recipes -------------------------------------------------------------------------------------

DIALECT: dict[str, Any] = {
    "features": {"gone": {"missing": "nobody has it", "source": "here:1"}, "there": {"arg": "x"}},
    "variables_gone": {"OLD_ONE": {"fix": "remove it", "source": "here:2"}},
    "flags_gone": {"swap-space": {"instead": "nothing", "source": "here:3"}},
    "connectors": {"vllm": {"names": ["NixlConnector"], "source": "here:4"}},
    "connectors_gone": {"OldConnector": {"instead": "NixlConnector"}},
}


def recipe(**block: Any) -> Recipe:
    return Recipe(
        "a/b", "", "org/Model-7B-W8A8", (), (), {"single": Block(**block)}, "", (PREVIOUS,)
    )


def effects(one: Recipe, **files: str) -> list[str]:
    given = sources(NEW)
    tree = dataclasses.replace(
        given.vllm_ascend, files={**given.vllm_ascend.files, "tests/e2e/a.py": "Model-7B", **files}
    )
    after = dataclasses.replace(given, vllm_ascend=tree)
    before = dataclasses.replace(after, release=PREVIOUS)
    found = recipe_effects.effects([one], PREVIOUS, DIALECT, after, before)
    return [effect.what for effect in found]


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ({"features": {"gone": 1, "there": 1}}, ["the feature gone is left out: nobody has it"]),
        ({"env": {"OLD_ONE": "1", "HCCL_X": "1"}}, ["nothing reads OLD_ONE: remove it"]),
        ({"env": {"VLLM_UNHEARD": "1"}}, ["nothing reads VLLM_UNHEARD any more"]),
        (
            {"args": {"swap-space": arguments.from_value("swap-space", 4)}},
            ["--swap-space is gone: nothing"],
        ),
        (
            {"kv_transfer": {"kv_connector": "OldConnector"}},
            ["the connector OldConnector is gone: use NixlConnector"],
        ),
        ({"kv_transfer": {"kv_connector": "NixlConnector"}}, []),
    ],
)
def test_what_it_means_for_a_recipe(block: dict[str, Any], what: list[str]) -> None:
    assert effects(recipe(**block)) == what


def test_a_model_that_is_no_longer_tested_and_a_document_that_is_gone() -> None:
    one = recipe()._replace(sources={"": f"vllm-ascend {PREVIOUS}: docs/source/Gone.md:3"})
    assert effects(one) == ["its document is gone: docs/source/Gone.md"]
    given = sources(NEW)
    tested = dataclasses.replace(
        given.vllm_ascend, files={**given.vllm_ascend.files, "tests/e2e/a.py": "Model-7B"}
    )
    before = dataclasses.replace(given, vllm_ascend=tested)
    (found,) = recipe_effects.effects([recipe()], PREVIOUS, DIALECT, given, before)
    assert found.what == "no test names Model-7B any more"


def test_recipes_of_other_releases_are_left_out() -> None:
    one = recipe(env={"OLD_ONE": "1"})._replace(releases=("v0.11.0",))
    assert effects(one) == []
