"""The catalogue of a release's keys: of --additional-config, and of each KV connector.

The form of `env/keys/{release}.json`:

additional_config: dotted key → entry; the empty key is the option itself. An entry has `source`,
    and if they apply `default`, `was` (the variable that the key replaces), `same_as` (the key
    that sets the same attribute), `strict` (unknown keys below it are refused) and `open` (any key
    below it may be read).
shared: keys of kv_connector_extra_config that are read for every connector.
connectors: name → `source`, `keys` (those that the connector reads), and if they apply `open`
    (other packages may read more), `ports` (the first port of its workers and schedulers) and
    `schedulers_after` (the schedulers' ports follow those of all workers).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from upstream.catalogues.config_reads import KeyPath, Reader, Reads, parsed
from upstream.sources import Sources

CONFIG_CLASS = "AscendConfig"
PYTHON = r"vllm_ascend/.*\.py"
TRANSFER = r"vllm/distributed/kv_transfer/.*\.py"
EXTRA, GETTER = "kv_connector_extra_config", "get_from_extra_config"
REGISTRIES = r"(vllm_ascend/distributed/(kv_transfer/)?__init__|.*/kv_connector/factory)\.py"
# Modules that only their own connectors use.
OF_CONNECTORS = ("vllm_ascend/distributed/", "vllm/distributed/kv_transfer/kv_connector/v1/")
# Packages that get the whole configuration.
EXTERNAL = ("lmcache", "ucm", "flexkv")
PORT_NAMES = ("side_channel_port", "handshake_port")
SIZES = {
    "data_parallel_rank": "dp_rank",
    "tensor_parallel_size": "tp_size",
    "pipeline_parallel_size": "pp_size",
    "prefill_context_parallel_size": "pcp_size",
}


def catalogue(sources: Sources) -> dict[str, Any]:
    """The catalogue of a release, as in its file."""
    own, vllm = sources.vllm_ascend, sources.vllm
    ours = {path: own.files[path] for path in own.matching(PYTHON)}
    theirs = {path: vllm.files[path] for path in vllm.matching(TRANSFER)}
    files = {**theirs, **ours}
    shared = _extra(
        {path: text for path, text in files.items() if not path.startswith(OF_CONNECTORS)}
    )
    keys = _names(shared) - {"kv_connector"}  # names a part of MultiConnector
    reads = Reader(ours, "additional_config", typed=CONFIG_CLASS).reads
    return {
        "release": sources.release,
        "additional_config": dict(_entries(reads)) if ours else {"": {"open": True}},
        "shared": sorted(keys),
        "connectors": dict(_connectors(files, keys)),
    }


def _extra(files: Mapping[str, str]) -> Reads:
    return Reader(files, EXTRA, GETTER).reads


def _names(reads: Reads) -> set[str]:
    return {".".join(path) for path in reads.places}


def _entries(reads: Reads) -> Iterator[tuple[str, dict[str, Any]]]:
    twins = _twins(reads)
    if () in reads.strict:
        yield "", {"strict": True}
    for path, (file, line) in sorted(reads.places.items()):
        group = any(one[: len(path)] == path and one != path for one in reads.places)
        strict = path in reads.strict
        entry = {
            "source": f"{file}:{line}",
            "default": reads.defaults.get(path),
            "was": reads.was.get(path),
            "same_as": twins.get(path),
            "strict": strict or None,
            "open": (group and not strict and path in reads.open) or None,
        }
        yield ".".join(path), {key: value for key, value in entry.items() if value is not None}


def _twins(reads: Reads) -> dict[KeyPath, str]:
    """Key → the key inside a group that is stored in the same attribute and replaces it."""
    found: dict[KeyPath, str] = {}
    for paths in reads.stored.values():
        inside = [path for path in paths if len(path) > 1]
        alone = [path for path in paths if len(path) == 1]
        if len(inside) == 1 and len(alone) == 1:
            found[alone[0]] = ".".join(inside[0])
    return found


# ---- connectors ----------------------------------------------------------------------------------


def _connectors(
    files: Mapping[str, str], shared: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A later registration of a name replaces an earlier one; vllm-ascend's come last."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(files, key=lambda one: one.startswith("vllm_ascend")):
        if re.fullmatch(REGISTRIES, path):
            for name, module, line in _registered(files[path]):
                found[name] = module, f"{path}:{line}"
    for name, (module, source) in sorted(found.items()):
        reached = reach(files, module)
        reads = _extra({path: files[path] for path in reached})
        ports = dict(_ports(files, reached))
        packages = {
            one.partition(".")[0] for path in reached for one in _imported(files[path], path)
        }
        whole = () in reads.open or not (reads.places or ports)
        entry = {
            "source": source,
            "keys": sorted(_names(reads) - set(shared)),
            "open": whole or not packages.isdisjoint(EXTERNAL) or None,
            "ports": ports or None,
            "schedulers_after": "max_device_id" in ports.get("scheduler", "") or None,
        }
        yield name, {key: value for key, value in entry.items() if value is not None}


def _registered(text: str) -> Iterator[tuple[str, str, int]]:
    """Name, module and line of each registration with KVConnectorFactory."""
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("register_connector"):
            words = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if len(words) > 1:
                yield str(words[0]), str(words[1]), node.lineno


def reach(files: Mapping[str, str], module: str) -> list[str]:
    """The connectors' files that a module imports, at any depth, itself first."""
    found: list[str] = []
    waiting = [module]
    while waiting:
        name = waiting.pop(0)
        for path in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
            if path in files and path not in found and path.startswith(OF_CONNECTORS):
                found.append(path)
                waiting += _imported(files[path], path)
    return found


@lru_cache(maxsize=1024)
def _imported(text: str, path: str) -> tuple[str, ...]:
    package = PurePosixPath(path).parent
    names: list[str] = []
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Import):
            names += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package
            for _ in range(node.level - 1):
                start = start.parent
            base = ".".join(start.parts) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # The package of a registry names all connectors.
            if not module.endswith(("kv_connector.v1", "kv_connector.factory")):
                names += [module, *(f"{module}.{one.name}" for one in node.names)]
    return tuple(names)


def _ports(files: Mapping[str, str], paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """`worker` and `scheduler` → the formula of their first port, in the nearest class."""
    seen = set()
    for path in paths:
        for cls in parsed(files[path]).body:
            if not isinstance(cls, ast.ClassDef):
                continue
            kind = next((one for one in ("Worker", "Scheduler") if one in cls.name), "").lower()
            for node in ast.walk(cls):
                if not isinstance(node, ast.Assign) or not isinstance(
                    node.targets[0], ast.Attribute
                ):
                    continue
                text = ast.unparse(node.value)
                if node.targets[0].attr in PORT_NAMES and "kv_port" in text and kind not in seen:
                    seen.add(kind)
                    if kind:
                        yield kind, _formula(text)


def _formula(text: str) -> str:
    """`kv_port + dp_rank * tp_size` for the expression in a connector."""
    text = re.sub(r"\b(self|vllm_config|kv_transfer_config|parallel_config)\.", "", text)
    return re.sub(r"\w+", lambda match: SIZES.get(match[0], match[0]), text)
