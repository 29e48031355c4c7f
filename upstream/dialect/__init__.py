"""A release's dialect: the content of env/releases, derived from its sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError
from upstream.dialect import feature_forms, limits, python_source, removed_names
from upstream.dialect.upstream_names import ENVS, package_trees, vllm_only
from upstream.facts import Contradiction, Decision, Derived, Fact
from upstream.sources import Sources

__all__ = ["DERIVATIONS", "derive"]

Found = Fact | Decision | Contradiction
Derivation = Callable[[Sources, Mapping[str, Any]], Iterator[Found]]

# Keys of env/releases in order → (their derivation, whether vLLM's sources suffice for it).
DERIVATIONS: dict[str, tuple[Derivation, bool]] = {
    "vllm": (limits.vllm, False),
    "mooncake": (limits.mooncake, False),
    "kv_port": (limits.kv_port, True),
    "adxl_ports": (limits.adxl_ports, False),
    "features": (feature_forms.features, True),
    "connectors": (removed_names.connectors, True),
    "flags_gone": (removed_names.flags, True),
    "headless_api_servers": (limits.headless_api_servers, True),
    "async_scheduling_refused": (limits.async_scheduling_refused, True),
    "kv_blocks_checked": (limits.kv_blocks_checked, False),
    "prefill_over_nodes": (limits.prefill_over_nodes, False),
    "flashcomm1_asserted": (limits.flashcomm1_asserted, False),
    "fused_mc2_largest_ep": (limits.fused_mc2_largest_ep, False),
    "dense_external_dp": (limits.dense_external_dp, True),
    "kv_engine_id_suffixed": (limits.kv_engine_id_suffixed, False),
    "gpu_memory_utilization": (limits.gpu_memory_utilization, True),
    "image_env": (limits.image_env, False),
}


def derive(
    sources: Sources, previous: Mapping[str, Any], variables: Mapping[str, str] | None = None
) -> Derived:
    """Derive a fact for each dotted key; texts written by people come from `previous`.

    `previous`: the document of the previous release, or of the same one to check it. `variables`:
    names that vllm-ascend defined in earlier releases → the last one that did. Without vllm-ascend,
    derives only what vLLM's own sources state. Raises UserError (65) if the sources have no table
    of variables or no flags at all: upstream has then moved them, not removed them.
    """
    _check_landmarks(sources)
    found: list[Found] = []
    for derivation, from_vllm in DERIVATIONS.values():
        if from_vllm or not vllm_only(sources):
            found += derivation(sources, previous)
    stated = {one.key for one in found if isinstance(one, Fact)}
    found += removed_names.variables(sources, previous, variables or {}, stated)
    return Derived(
        tuple(one for one in found if isinstance(one, Fact)),
        contradictions=tuple(one for one in found if isinstance(one, Contradiction)),
        decisions=tuple(one for one in found if isinstance(one, Decision)),
    )


def _check_landmarks(sources: Sources) -> None:
    problems = [
        Finding(tree.cite(ENVS[package]), "has no readable table of variables")
        for package, tree in package_trees(sources).items()
        if tree.files and not python_source.variables(tree, ENVS[package])
    ]
    if not python_source.flags(package_trees(sources)["vllm"]):
        problems.append(Finding(str(sources.vllm), "adds no readable flag"))
    if problems:
        raise UserError(problems, EX_DATAERR)
