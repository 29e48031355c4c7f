"""The kv-transfer-config of a node, made from the recipe and the topology.

The prefill and decode blocks must equal the real sizes of both sides on every node
(vllm-ascend#8344, #8345, #8442), so nobody types them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .problems import Problem
from .recipes import Recipe
from .settings import Settings
from .topology import Place

EXTRA = "kv_connector_extra_config"
SIDES = ("prefill", "decode")


def config(
    settings: Settings, recipe: Recipe | None, place: Place, default_port: int
) -> dict[str, Any] | None:
    """The value of --kv-transfer-config, or None when the recipe has no kv_transfer."""
    given = place.block.kv_transfer
    if not given:
        return None
    made = {key: value for key, value in given.items() if key != EXTRA}
    if place.group.kv_role:
        made.setdefault("kv_role", place.group.kv_role)
        made["kv_port"] = str(settings.kv_port or given.get("kv_port") or default_port)
    elif settings.kv_port:
        made["kv_port"] = str(settings.kv_port)
    if settings.engine_id or "engine_id" in given:
        made["engine_id"] = str(settings.engine_id or given["engine_id"])
    extra = dict(given.get(EXTRA) or {})
    if recipe and all(side in recipe.groups for side in SIDES):
        extra.update({side: _block(recipe, place, side) for side in SIDES})
    return {**made, EXTRA: extra} if extra else made


def _block(recipe: Recipe, place: Place, side: str) -> dict[str, int]:
    """pp_size only where it is not 1 (vllm-ascend mooncake_connector.py reads 1 without it)."""
    sizes = place.sizes if place.group.name == side else recipe.groups[side].sizes
    block = {"dp_size": sizes.dp or 1, "tp_size": sizes.tp or 1}
    if sizes.pp and sizes.pp > 1:
        block["pp_size"] = sizes.pp
    return block


class Transfer(NamedTuple):
    """What matters of a final kv-transfer-config, whoever wrote it."""

    connector: str
    produces: bool
    port: int | None
    extra: Mapping[str, Any]

    @property
    def mooncake(self) -> bool:
        return self.connector.startswith("Mooncake")


def read(raw: Any, problems: list[Problem]) -> Transfer | None:
    """Reads the final flag's JSON. A value that is not an object with a port is a problem."""
    if not isinstance(raw, dict):
        fix = "give a JSON object"
        message = "is not a JSON object"
        problems.append(Problem("bad-argument", "--kv-transfer-config", message, fix))
        return None
    port = raw.get("kv_port")
    number = int(str(port)) if re.fullmatch("[0-9]{1,5}", str(port)) else None
    if port is not None and not (number and number <= 65535):
        fix = "give a port from 1 to 65535"
        message = f"kv_port {port!r} is not a port"
        problems.append(Problem("bad-argument", "--kv-transfer-config", message, fix))
    extra = raw.get(EXTRA)
    return Transfer(
        connector=str(raw.get("kv_connector") or ""),
        produces=raw.get("kv_role") == "kv_producer",
        port=number,
        extra=extra if isinstance(extra, dict) else {},
    )
