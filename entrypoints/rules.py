"""What works but deserves a warning. A rule is a small pure function over Facts.

The facts a rule goes by, and their sources, are in env/releases; a rule holds only the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from .kv import Transfer
from .problems import Advice
from .recipes import Recipe
from .stack import Platform, Release
from .topology import Place

Ports = Mapping[str, "int | list[int]"]


class Facts(NamedTuple):
    """Everything that a rule may look at."""

    release: Release
    platform: Platform | None
    recipe: Recipe | None
    place: Place
    transfer: Transfer | None
    ports: Ports


Rule = Callable[[Facts], Iterator[Advice]]


def ports_in_adxl_range(facts: Facts) -> Iterator[Advice]:
    """A port of ours may already be taken by Mooncake's ascend transport."""
    adxl = facts.ports.get("adxl")
    if not isinstance(adxl, list):
        return
    for name, port in facts.ports.items():
        first, last = port if isinstance(port, list) else (port, port)
        if name != "adxl" and first <= adxl[1] and last >= adxl[0]:
            variable = {"kv": "KV_PORT", "dp_rpc": "DP_RPC_PORT", "api": "PORT"}[name]
            yield Advice(
                f"{name.replace('_', '-')}-port-in-adxl-range",
                f"{variable} {first} lies in {adxl[0]}-{adxl[1]}, which Mooncake"
                f" {facts.release.mooncake} uses for its devices:"
                " the start can fail with 'Address already in use'",
                f"set {variable} to a port from {adxl[1] + 1} up",
                facts.release.adxl_ports.source,
            )


def unread_kv_keys(facts: Facts) -> Iterator[Advice]:
    """A key of kv_connector_extra_config that this release does not read."""
    for key, source in facts.release.kv_extra_config_unread.items():
        if facts.transfer and key in facts.transfer.extra:
            yield Advice(
                "kv-key-unread",
                f"{key} in kv_connector_extra_config has no effect in {facts.release.name}",
                "take it out of the recipe",
                source,
            )


def sizes_changed(facts: Facts) -> Iterator[Advice]:
    """Sizes changed here, which the nodes of the other side cannot know of."""
    place, recipe = facts.place, facts.recipe
    if recipe is None or not place.group.kv_role or facts.transfer is None:
        return
    theirs = recipe.groups[place.group.name].sizes
    if place.sizes[:3] != theirs[:3]:
        flag = f"--kv-transfer-config.kv_connector_extra_config.{place.group.name}"
        yield Advice(
            "kv-sizes-changed",
            f"the {place.group.name} sizes are not the recipe's, and the other side still"
            " expects those",
            f"give the other side's nodes {flag}.tp_size {place.tp} and {flag}.dp_size {place.dp}",
            "vllm-ascend#8344",
        )


def other_platform(facts: Facts) -> Iterator[Advice]:
    """The recipe was made for other hardware."""
    if facts.platform and facts.recipe and facts.recipe.platforms:
        name = facts.platform.name
        if name not in facts.recipe.platforms:
            yield Advice(
                "other-platform",
                f"the recipe is for {', '.join(facts.recipe.platforms)}, the image for {name}",
                "choose a recipe for this platform",
                f"recipe {facts.recipe.name}",
            )


RULES: tuple[Rule, ...] = (ports_in_adxl_range, unread_kv_keys, sizes_changed, other_platform)


def check(facts: Facts) -> tuple[Advice, ...]:
    """Every warning of every rule, in order."""
    return tuple(warning for rule in RULES for warning in rule(facts))
