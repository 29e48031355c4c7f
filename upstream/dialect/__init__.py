"""A release's dialect: what env/releases states of it, derived from its sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError
from upstream.dialect import forms, gone, limits, python
from upstream.dialect.known import ENVS, alone, trees
from upstream.model import Contradiction, Decision, Derived, Fact
from upstream.sources import Sources

__all__ = ["DERIVATIONS", "derive"]

Found = Fact | Decision | Contradiction
Derivation = Callable[[Sources, Mapping[str, Any]], Iterator[Found]]

# Keys of env/releases in their order -> what derives them. `vllm`: whether vLLM's sources suffice.
DERIVATIONS: dict[str, tuple[Derivation, bool]] = {
    "vllm": (limits.vllm, False),
    "mooncake": (limits.mooncake, False),
    "kv_port": (limits.kv_port, True),
    "adxl_ports": (limits.adxl_ports, False),
    "kv_extra_config_unread": (gone.extra_config, False),
    "features": (forms.features, True),
    "connectors": (gone.connectors, True),
    "flags_gone": (gone.flags, True),
    "headless_api_servers": (limits.headless_api_servers, True),
    "async_scheduling_refused": (limits.async_scheduling_refused, True),
    "kv_blocks_checked": (limits.kv_blocks_checked, False),
    "prefill_over_nodes": (limits.prefill_over_nodes, False),
    "flashcomm1_asserted": (limits.flashcomm1_asserted, False),
    "fused_mc2_largest_ep": (limits.fused_mc2_largest_ep, False),
    "dense_external_dp": (limits.dense_external_dp, True),
    "kv_engine_id_suffixed": (limits.kv_engine_id_suffixed, False),
    "gpu_memory_utilization": (limits.gpu_memory_utilization, True),
}


def derive(
    sources: Sources, previous: Mapping[str, Any], variables: Mapping[str, str] | None = None
) -> Derived:
    """What the sources say of each key, dotted; the words of people come from `previous`.

    `previous`: the document of the release before, or of the same one, to see what is still so.
    `variables`: names that vllm-ascend defined in earlier releases -> the last that did. Without
    vllm-ascend, only what vLLM's own sources say is derived. Raises UserError (65) where variables
    or flags are not found at all: then upstream has moved them, and not taken them out.
    """
    _landmarks(sources)
    found: list[Found] = []
    for derivation, of_vllm in DERIVATIONS.values():
        if of_vllm or not alone(sources):
            found += derivation(sources, previous)
    stated = {one.key for one in found if isinstance(one, Fact)}
    found += gone.variables(sources, previous, variables or {}, stated)
    return Derived(
        tuple(one for one in found if isinstance(one, Fact)),
        contradictions=tuple(one for one in found if isinstance(one, Contradiction)),
        decisions=tuple(one for one in found if isinstance(one, Decision)),
    )


def _landmarks(sources: Sources) -> None:
    problems = [
        Finding(tree.cite(ENVS[package]), "has no table of variables that can be read")
        for package, tree in trees(sources).items()
        if tree.files and not python.variables(tree, ENVS[package])
    ]
    if not python.flags(trees(sources)["vllm"]):
        problems.append(Finding(str(sources.vllm), "adds no flag that can be read"))
    if problems:
        raise UserError(problems, EX_DATAERR)
