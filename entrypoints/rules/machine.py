"""The image's hardware, and variables that are about it."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.rules.facts import WARNING, Check, Facts, Found, number

_MODEL_TIMEOUT = "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"
_HCCL_TIMEOUT = "HCCL_EXEC_TIMEOUT"


def other_platform(facts: Facts) -> Iterator[Found]:
    if facts.platform and facts.recipe and facts.recipe.platforms:
        name = facts.platform.name
        if name not in facts.recipe.platforms:
            yield Found(
                f"the recipe is for {', '.join(facts.recipe.platforms)}, the image for {name}",
                "choose a recipe for this platform",
                source=f"recipe {facts.recipe.name}",
            )


def other_release(facts: Facts) -> Iterator[Found]:
    recipe, name = facts.recipe, facts.release.name
    if recipe and recipe.releases and name not in recipe.releases:
        yield Found(
            f"the recipe is stated for {', '.join(recipe.releases)}, and this is {name}, where its"
            " values may be wrong",
            "choose a recipe that `recipes` lists for this release, or one that extends this and"
            " names it under `releases`",
            source=f"recipe {recipe.title}",
        )


def variable_gone(facts: Facts) -> Iterator[Found]:
    for name, gone in facts.release.variables_gone.items():
        if name in facts.env:
            yield Found(
                f"{name} has no effect since {gone['since']}", gone["fix"], source=gone["source"]
            )


def timeouts(facts: Facts) -> Iterator[Found]:
    """Only where one of the two is set: vLLM's own default is below HCCL's, too."""
    if not {_MODEL_TIMEOUT, _HCCL_TIMEOUT} & set(facts.env):
        return
    known = facts.release.timeouts
    model = number(facts.env.get(_MODEL_TIMEOUT, str(known["execute_model"])))
    hccl = number(facts.env.get(_HCCL_TIMEOUT, str(known["hccl_exec"])))
    if model is not None and hccl is not None and model < hccl:
        yield Found(
            f"{_MODEL_TIMEOUT} {model} is below HCCL's timeout of {hccl} s: when a node fails, the"
            " others stop before HCCL says why",
            f"set {_MODEL_TIMEOUT} above {hccl}",
            source=known["source"],
        )


CHECKS = (
    Check(
        "other-platform",
        WARNING,
        "a recipe for other hardware",
        "the recipe's platforms",
        other_platform,
    ),
    Check(
        "other-release",
        WARNING,
        "a recipe that is stated for other releases",
        "the recipe's releases",
        other_release,
    ),
    Check(
        "variable-gone",
        WARNING,
        "a variable of an earlier release",
        "vllm-ascend: vllm_ascend/envs.py",
        variable_gone,
    ),
    Check(
        "timeout-order",
        WARNING,
        "vLLM gives up before HCCL does",
        "vllm-ascend PR #13233",
        timeouts,
    ),
)
