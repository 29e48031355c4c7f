"""The kv-transfer-config of a node, made from the recipe and the topology.

The prefill and decode blocks must equal the real sizes of both sides on every node
(vllm-ascend#8344, #8345, #8442), so they are never written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from entrypoints.findings import Finding
from entrypoints.inputs.recipes import EXTRA, SIDES, Block, Recipe
from entrypoints.inputs.settings import Settings
from entrypoints.launch.topology import Place
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

PARTS = "connectors"


def config(
    settings: Settings, recipe: Recipe | None, place: Place, default_port: int
) -> dict[str, Any] | None:
    """The value of --kv-transfer-config, or None when the recipe has no kv_transfer.

    Under MultiConnector, the Mooncake connector among its parts gets port and blocks.
    """
    given = dict(place.block.kv_transfer)
    if not given:
        return None
    if place.group.kv_role:
        given.setdefault("kv_role", place.group.kv_role)
    extra = given.pop(EXTRA, None) or {}
    parts = extra.get(PARTS)
    if isinstance(parts, list):
        made = {**given, **({"engine_id": settings.engine_id} if settings.engine_id else {})}
        made_parts = [_part(settings, recipe, place, default_port, part) for part in parts]
        return {**_texts(made), EXTRA: {**extra, PARTS: made_parts}}
    return _complete(settings, recipe, place, default_port, given, extra)


def _part(
    settings: Settings, recipe: Recipe | None, place: Place, default_port: int, part: Any
) -> Any:
    if not isinstance(part, Mapping):
        return part
    given = dict(part)
    if place.group.kv_role:
        given.setdefault("kv_role", place.group.kv_role)
    extra = given.pop(EXTRA, None) or {}
    if str(given.get("kv_connector", "")).startswith("Mooncake"):
        return _complete(settings, recipe, place, default_port, given, extra)
    return {**given, EXTRA: extra} if extra else given


def _complete(
    settings: Settings,
    recipe: Recipe | None,
    place: Place,
    default_port: int,
    given: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    made = dict(given)
    if settings.kv_port or place.group.kv_role:
        made["kv_port"] = settings.kv_port or given.get("kv_port") or default_port
    if settings.engine_id:
        made["engine_id"] = settings.engine_id
    if recipe and all(side in recipe.groups for side in SIDES):
        extra = {**extra, **{side: _block(recipe, place, side) for side in SIDES}}
    return {**_texts(made), EXTRA: extra} if extra else _texts(made)


def _texts(made: Mapping[str, Any]) -> dict[str, Any]:
    """Convert port and identity to text, which vLLM's config requires."""
    return {k: str(v) if k in ("kv_port", "engine_id") else v for k, v in made.items()}


def _block(recipe: Recipe, place: Place, side: str) -> dict[str, int]:
    """The sizes of a side; pp_size only when it is not 1, its default in vllm-ascend."""
    sizes = place.sizes if place.group.name == side else recipe.groups[side].sizes
    block = {"dp_size": sizes.dp or 1, "tp_size": sizes.tp or 1}
    if sizes.pp and sizes.pp > 1:
        block["pp_size"] = sizes.pp
    return block


def connectors(block: Block) -> Iterator[str]:
    """The connector that a group's kv_transfer names, and the connectors within it."""
    return _connectors(block.kv_transfer)


def _connectors(raw: Mapping[str, Any]) -> Iterator[str]:
    yield str(raw.get("kv_connector") or "")
    parts = (raw.get(EXTRA) or {}).get(PARTS)
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Mapping):
            yield from _connectors(part)


class Transfer(NamedTuple):
    """The facts of a complete kv-transfer-config, whoever wrote it.

    Under MultiConnector these are the facts of the Mooncake connector among its parts.
    """

    connector: str
    produces: bool
    port: int | None
    extra: Mapping[str, Any]
    role: str = ""
    connectors: tuple[str, ...] = ()

    @property
    def mooncake(self) -> bool:
        return self.connector.startswith("Mooncake")


def read(raw: Any, findings: list[Finding]) -> Transfer | None:
    """Read the complete flag's JSON. A value other than an object with a port is an error."""
    if not isinstance(raw, dict):
        findings.append(finding("bad-argument.not-an-object"))
        return None
    outer = raw.get(EXTRA)
    parts = outer.get(PARTS) if isinstance(outer, dict) else None
    named = [part for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict)]
    whole = raw
    for part in named:
        if str(part.get("kv_connector") or "").startswith("Mooncake"):
            raw = part
            break
    port = raw.get("kv_port")
    number = int(str(port)) if re.fullmatch("[0-9]{1,5}", str(port)) else None
    if port is not None and not (number and number <= 65535):
        findings.append(finding("bad-argument.not-a-port", port=port))
    extra = raw.get(EXTRA)
    role = raw.get("kv_role") or whole.get("kv_role")
    return Transfer(
        connector=str(raw.get("kv_connector") or ""),
        produces=role == "kv_producer",
        port=number,
        extra=extra if isinstance(extra, dict) else {},
        role=str(role or ""),
        connectors=tuple(str(one.get("kv_connector") or "") for one in (whole, *named)),
    )
