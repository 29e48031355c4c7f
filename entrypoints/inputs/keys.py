"""The keys of --additional-config and kv_connector_extra_config that a release reads.

`invoke flags` writes env/keys/{release}.json from the sources. A release ignores most other keys
without an error: what they should turn on stays off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from entrypoints.findings import near
from entrypoints.inputs import data, releases
from entrypoints.inputs.stack import Release
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_CONFIG = "additional_config"


class Unread(NamedTuple):
    """A dotted key that the release does not read. `refused`: the server ends because of it."""

    key: str
    refused: bool


class Advice(NamedTuple):
    """What to do about a key, and where upstream says so. `others`: the releases that read it."""

    fix: str
    source: str = ""
    others: Sequence[str] = ()


def load(name: str) -> Mapping[str, Any]:
    """The catalogue of a release. Raises Refused (65) when its file cannot be read."""
    found: Mapping[str, Any] = data.read(data.path_of("keys", f"{name}.json"))
    return found


def names() -> list[str]:
    """The releases that have a catalogue, from the oldest to the newest."""
    files = os.listdir(data.path_of("keys"))
    return releases.sort(name[: -len(".json")] for name in files if name.endswith(".json"))


def unread(config: Mapping[str, Any], release: Release) -> list[Unread]:
    """The outermost keys of --additional-config that the release does not read."""
    return list(_unread(config, load(release.facts)[_CONFIG], ""))


def _unread(config: Mapping[str, Any], known: Mapping[str, Any], at: str) -> Iterator[Unread]:
    group = known.get(at, {})
    if group.get("open"):
        return
    for key, value in config.items():
        path = f"{at}.{key}" if at else key
        if path not in known:
            yield Unread(path, bool(group.get("strict")))
        elif isinstance(value, dict) and any(one.startswith(f"{path}.") for one in known):
            yield from _unread(value, known, path)


def advice(key: str, release: Release) -> Advice:
    """Where a key of --additional-config moved, what replaces it, or the nearest key."""
    here = load(release.facts)[_CONFIG]
    every = {name: load(name)[_CONFIG] for name in names()}
    others = [name for name, keys in every.items() if key in keys]
    gone = data.read(data.path_of("keys_gone.yaml"))["keys"].get(key)
    if gone:
        return Advice(gone["instead"], gone["source"], others)
    moved = moved_to(key, here, [every[name] for name in others])
    if moved:
        return Advice(
            f"write {moved}", f"vllm-ascend {release.facts}: {here[moved]['source']}", others
        )
    fix = near(key, here) or f"remove it; env/keys/{release.facts}.json has the keys it reads"
    return Advice(fix, others=others)


def moved_to(key: str, here: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]] = ()) -> str:
    """The key among `here` that sets what `key` sets in earlier catalogues; else empty."""
    leaf = key.rpartition(".")[2]
    same = [keys[key].get("same_as") for keys in earlier]
    same += [one for one in here if one.rpartition(".")[2] == leaf and leaf != "enabled"]
    return next((one for one in same if one in here), "")


def schedulers_after(name: str, release: Release) -> bool:
    """Whether a connector's schedulers listen on the ports after those of all workers."""
    return bool(load(release.facts)["connectors"].get(name, {}).get("schedulers_after"))


def unread_extra(
    name: str, extra: Mapping[str, Any], release: Release
) -> Iterator[tuple[str, str, str]]:
    """Key, fix and source for each key of kv_connector_extra_config that a connector ignores."""
    catalogue = load(release.facts)
    connector = catalogue["connectors"].get(name)
    if connector is None or connector.get("open"):
        return
    known: dict[str, Any] = {key: {} for key in (*catalogue["shared"], *connector["keys"])}
    source = f"vllm-ascend {release.facts}: {connector['source']}"
    for one in _unread(extra, known, ""):
        yield one.key, near(one.key, known) or "remove it", source
