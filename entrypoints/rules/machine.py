"""The image's hardware and release, and variables that depend on them."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.inputs import model, releases
from entrypoints.launch.facts import Facts, number
from entrypoints.messages import finding

_MODEL_TIMEOUT = "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"
_HCCL_TIMEOUT = "HCCL_EXEC_TIMEOUT"


def other_platform(facts: Facts) -> Iterator[Finding]:
    platform, recipe = facts.platform, facts.recipe
    if platform and recipe and recipe.platforms and platform.name not in recipe.platforms:
        platforms = ", ".join(recipe.platforms)
        yield finding(
            "other-platform",
            source=f"recipe {recipe.name}",
            platforms=platforms,
            image=platform.name,
        )


def other_release(facts: Facts) -> Iterator[Finding]:
    recipe, release = facts.recipe, facts.release.facts
    if recipe and recipe.releases and release not in recipe.releases:
        releases = ", ".join(recipe.releases)
        yield finding(
            "other-release", source=f"recipe {recipe.title}", releases=releases, release=release
        )


def model_deprecated(facts: Facts) -> Iterator[Finding]:
    name = facts.release.name
    old = model.deprecation(facts.model_name)
    if old and releases.sort([old.release, name])[-1] == name:
        yield finding(
            "model-deprecated", source=old.source, model=old.model, since=old.release, release=name
        )


def variable_gone(facts: Facts) -> Iterator[Finding]:
    for name, gone in facts.release.variables_gone.items():
        if name in facts.env:
            yield finding(
                "variable-gone",
                name=name,
                since=gone["since"],
                instead=gone["fix"],
                source=gone["source"],
            )


def timeouts(facts: Facts) -> Iterator[Finding]:
    """Only if one of the two is set: vLLM's default is below HCCL's as well."""
    if not {_MODEL_TIMEOUT, _HCCL_TIMEOUT} & set(facts.env):
        return
    known = facts.release.timeouts
    execute = number(facts.env.get(_MODEL_TIMEOUT, str(known["execute_model"])))
    hccl = number(facts.env.get(_HCCL_TIMEOUT, str(known["hccl_exec"])))
    if execute is not None and hccl is not None and execute < hccl:
        yield finding("timeout-order", source=known["source"], model=execute, hccl=hccl)


RULES = (other_platform, other_release, model_deprecated, variable_gone, timeouts)
