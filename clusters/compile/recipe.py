"""The value of RECIPE: a recipe's name, or a recipe with the settings of the cluster file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clusters.model import Cluster, Instance
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.findings import Refused
from entrypoints.inputs import recipes
from entrypoints.inputs.recipes import SIDES

# The roles that `serve` can mean, by preference: on one node, and on several.
_SERVES = {False: ("single", "leader", "ray-head"), True: ("leader", "ray-head", "single")}


def roles(cluster: Cluster, findings: list[LaunchFinding]) -> dict[str, str]:
    """Instance -> role; `serve` becomes the role that fits the recipe and the number of nodes."""
    try:
        have = groups(cluster)
    except Refused as refused:
        findings += refused.findings
        have = ()
    return {name: _role(one, have) for name, one in cluster.instances.items()}


def groups(cluster: Cluster) -> tuple[str, ...]:
    """The roles of the recipe. Raises Refused when it has errors."""
    recipe = cluster.recipe
    return () if recipe is None else tuple(recipes.load(_written(recipe)).groups)


def _role(instance: Instance, have: tuple[str, ...]) -> str:
    if instance.role != "serve":
        return instance.role
    wanted = _SERVES[instance.each > 1]
    return next((role for role in wanted if role in have), wanted[0])


def text(cluster: Cluster, instance: Instance, roles: Mapping[str, str]) -> str:
    """The value of RECIPE for an instance.

    Prefill and decode get the sizes of both sides, which their kv-transfer-config contains
    (vllm-ascend#8344, #8345, #8442).
    """
    role = roles[instance.name]
    own: dict[str, Any] = {role: instance.settings} if instance.settings else {}
    if role in SIDES:
        facing = (i for i in cluster.instances.values() if roles[i.name] in {*SIDES} - {role})
        other = next(facing, None)
        if other and other.settings.get("sizes"):
            own[roles[other.name]] = {"sizes": other.settings["sizes"]}
    over: dict[str, Any] = dict(cluster.settings)
    if own:
        over["roles"] = own
    if cluster.recipe is None:
        both = {side for side in roles.values() if side in SIDES} if role in SIDES else {role}
        every = {name: own.get(name, {}) for name in sorted(both, reverse=True)}
        result = {"model": cluster.model, **over, "roles": every}
        return _written(result)
    if not over:
        return _written(cluster.recipe)
    return _written({"extends": cluster.recipe, **over})


def _written(recipe: str | Mapping[str, Any]) -> str:
    return recipe if isinstance(recipe, str) else json.dumps(recipe, ensure_ascii=False)
