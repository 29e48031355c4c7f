"""The kv-transfer-config of a node, made from the recipe and the topology.

The prefill and decode blocks must equal the real sizes of both sides on every node
(vllm-ascend#8344, #8345, #8442), so they are never written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from entrypoints.findings import Finding
from entrypoints.inputs.recipes import EXTRA, SIDES, Recipe
from entrypoints.inputs.settings import Settings
from entrypoints.launch.topology import Place
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

PARTS = "connectors"
_DEPTH = 4


def config(
    settings: Settings, recipe: Recipe | None, place: Place, default_port: int
) -> dict[str, Any] | None:
    """The value of --kv-transfer-config, or None when the recipe has no kv_transfer.

    Under MultiConnector, the Mooncake connector among its parts gets port and blocks.
    """

    def make(given: Mapping[str, Any], outer: bool) -> dict[str, Any]:
        made = dict(given)
        if place.group.kv_role:
            made.setdefault("kv_role", place.group.kv_role)
        extra = made.pop(EXTRA, None) or {}
        parts = extra.get(PARTS) if outer else None
        if isinstance(parts, list):
            made_parts = [make(one, False) if isinstance(one, Mapping) else one for one in parts]
            extra = {**extra, PARTS: made_parts}
        elif not (outer or _is_mooncake(made)):
            return {**made, EXTRA: extra} if extra else made
        else:
            if settings.kv_port or place.group.kv_role:
                made["kv_port"] = settings.kv_port or made.get("kv_port") or default_port
            if recipe and all(side in recipe.groups for side in SIDES):
                extra = {**extra, **{side: _block(recipe, place, side) for side in SIDES}}
        if settings.engine_id:
            made["engine_id"] = settings.engine_id
        return {**_texts(made), EXTRA: extra} if extra else _texts(made)

    given = place.block.kv_transfer
    return make(given, True) if given else None


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


def each(raw: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """A config and, under MultiConnector, each one within it."""
    if isinstance(raw, Mapping) and depth < _DEPTH:
        yield raw
        extra = raw.get(EXTRA)
        inner = extra.get(PARTS) if isinstance(extra, Mapping) else None
        for part in inner if isinstance(inner, list) else ():
            yield from each(part, depth + 1)


def name_of(raw: Mapping[str, Any]) -> str:
    """The connector that a config names, empty when it names none."""
    return str(raw.get("kv_connector") or "")


def _is_mooncake(raw: Mapping[str, Any]) -> bool:
    return name_of(raw).startswith("Mooncake")


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
    whole, *parts = each(raw)
    raw = next(filter(_is_mooncake, parts), whole)
    port = raw.get("kv_port")
    number = int(str(port)) if re.fullmatch("[0-9]{1,5}", str(port)) else None
    if port is not None and not (number and number <= 65535):
        findings.append(finding("bad-argument.not-a-port", port=port))
    extra = raw.get(EXTRA)
    role = raw.get("kv_role") or whole.get("kv_role")
    return Transfer(
        connector=name_of(raw),
        produces=role == "kv_producer",
        port=number,
        extra=extra if isinstance(extra, dict) else {},
        role=str(role or ""),
        connectors=tuple(map(name_of, (whole, *parts))),
    )
