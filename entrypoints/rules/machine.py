"""The image's hardware and release, and variables that depend on them."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import WARNING, Finding, Message, check
from entrypoints.launch.facts import Facts, number

_MODEL_TIMEOUT = "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"
_HCCL_TIMEOUT = "HCCL_EXEC_TIMEOUT"


@check(
    "other-platform",
    WARNING,
    "a recipe for other hardware",
    "the recipe's platforms",
    Message(
        "the recipe is for {platforms}, the image for {image}", "choose a recipe for this platform"
    ),
)
def other_platform(facts: Facts, found: Message) -> Iterator[Finding]:
    platform, recipe = facts.platform, facts.recipe
    if platform and recipe and recipe.platforms and platform.name not in recipe.platforms:
        platforms = ", ".join(recipe.platforms)
        yield found(source=f"recipe {recipe.name}", platforms=platforms, image=platform.name)


@check(
    "other-release",
    WARNING,
    "a recipe stated for other releases",
    "the recipe's releases",
    Message(
        "the recipe is stated for {releases}; its values may be wrong for {release}",
        "choose a recipe that `recipes` lists for {release}, or extend this one and add"
        " {release} to `releases`",
    ),
)
def other_release(facts: Facts, found: Message) -> Iterator[Finding]:
    recipe, release = facts.recipe, facts.release.name
    if recipe and recipe.releases and release not in recipe.releases:
        releases = ", ".join(recipe.releases)
        yield found(source=f"recipe {recipe.title}", releases=releases, release=release)


@check(
    "variable-gone",
    WARNING,
    "a variable of an earlier release",
    "vllm-ascend: vllm_ascend/envs.py",
    Message("{name} has no effect since {since}", "{instead}"),
)
def variable_gone(facts: Facts, found: Message) -> Iterator[Finding]:
    for name, gone in facts.release.variables_gone.items():
        if name in facts.env:
            yield found(name=name, since=gone["since"], instead=gone["fix"], source=gone["source"])


@check(
    "timeout-order",
    WARNING,
    "vLLM's timeout below HCCL's",
    "vllm-ascend PR #13233",
    Message(
        f"{_MODEL_TIMEOUT} {{model}} is below HCCL's timeout of {{hccl}} s: when a node fails, the"
        " others stop before HCCL says why",
        f"set {_MODEL_TIMEOUT} above {{hccl}}",
    ),
)
def timeouts(facts: Facts, found: Message) -> Iterator[Finding]:
    """Only if one of the two is set: vLLM's default is below HCCL's as well."""
    if not {_MODEL_TIMEOUT, _HCCL_TIMEOUT} & set(facts.env):
        return
    known = facts.release.timeouts
    model = number(facts.env.get(_MODEL_TIMEOUT, str(known["execute_model"])))
    hccl = number(facts.env.get(_HCCL_TIMEOUT, str(known["hccl_exec"])))
    if model is not None and hccl is not None and model < hccl:
        yield found(source=known["source"], model=model, hccl=hccl)


CHECKS = (other_platform, other_release, variable_gone, timeouts)
